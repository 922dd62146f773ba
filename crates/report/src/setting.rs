//! What tells a row's setting from others, and what it is called. Rows of versions before schema 4 had no canonical text of their
//! setting: it is made from their columns, as the samplers' crate would write it now.

use crate::record::SampleRow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

impl SampleRow {
    /// The setting as charts and tables call it, as in `heun 20 s_churn=0.5`.
    pub fn label(&self) -> String {
        let label = match self.sampler.as_str() {
            "real" => "real images".to_string(),
            name => match (name.strip_prefix("real_noise_"), name.strip_prefix("real_blur_")) {
                (Some(std), _) => format!("real + noise {std}"),
                (_, Some(pixels)) => format!("real, blurred by {pixels} pixels"),
                _ => self.label.clone().unwrap_or_else(|| older_label(self)),
            },
        };
        self.with_variant(label)
    }

    /// What tells a setting from another one, whatever the seed, the model and the number of samples.
    pub fn setting(&self) -> String {
        let setting = match self.is_real() {
            true => self.sampler.clone(),
            false => self.setting.clone().unwrap_or_else(|| older_setting(self)),
        };
        self.with_variant(setting)
    }

    /// As if the setting had no `option`: rows that differ in it alone have one key and one label.
    pub fn without(&self, option: &str) -> (String, String) {
        let start = format!("{option}=");
        let without = |text: String| {
            text.split(' ').filter(|word| !word.starts_with(&start)).collect::<Vec<_>>().join(" ")
        };
        (without(self.setting()), without(self.label()))
    }

    fn with_variant(&self, text: String) -> String {
        match &self.variant {
            Some(variant) => format!("{text}, {variant}"),
            None => text,
        }
    }
}

/// The label of every setting of `rows`: where labels of different settings agree, with the words that tell these apart.
pub(crate) fn labels<'a>(rows: impl IntoIterator<Item = &'a SampleRow>) -> HashMap<String, String> {
    told_apart(rows.into_iter().map(|row| (row.setting(), row.label())))
}

/// [`labels`] of settings with their labels.
pub(crate) fn told_apart(settings: impl IntoIterator<Item = (String, String)>) -> HashMap<String, String> {
    let labels: HashMap<String, String> = settings.into_iter().collect();
    let mut alike: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (setting, label) in &labels {
        alike.entry(label).or_default().push(setting);
    }
    let name = |label: &str, setting: &str, shared: &BTreeSet<&str>| {
        let own: Vec<&str> = setting.split(' ').filter(|word| !shared.contains(word)).collect();
        if own.is_empty() { label.to_string() } else { format!("{label}, {}", own.join(" ")) }
    };
    let mut names = HashMap::new();
    for (label, settings) in alike {
        let words = settings.iter().map(|setting| setting.split(' ').collect::<BTreeSet<_>>());
        let shared = words.reduce(|a, b| &a & &b).unwrap_or_default();
        for setting in &settings {
            let name = if settings.len() > 1 { name(label, setting, &shared) } else { label.to_string() };
            names.insert((*setting).to_string(), name);
        }
    }
    names
}

/// The canonical text of a row's setting.
fn older_setting(row: &SampleRow) -> String {
    let mut text = row.sampler.clone();
    for (option, value, _) in options(row) {
        let _ = write!(text, " {option}={value}");
    }
    text
}

/// The text without what is at its default.
fn older_label(row: &SampleRow) -> String {
    let mut text = row.sampler.clone();
    // There the lesson's clamp, floor and scale go without saying.
    let unsaid = |option: &str| row.experiment == "22_no_t" && !["steps", "eta"].contains(&option);
    for (option, value, default) in options(row) {
        let _ = match option {
            "steps" => write!(text, " {value}"),
            _ if value == default || unsaid(option) => Ok(()),
            _ => write!(text, " {option}={value}"),
        };
    }
    text
}

/// Each option with its value and its default, in the order of the canonical text.
fn options(row: &SampleRow) -> Vec<(&'static str, String, &'static str)> {
    let number = |value: Option<f64>, default: f64| value.unwrap_or(default).to_string();
    let mut all = vec![("steps", row.steps.unwrap_or(20).to_string(), "")];
    let fixed = |option, value: &'static str| (option, value.to_string(), value);
    match row.sampler.as_str() {
        "euler" | "heun" => {
            all.push(("s_churn", number(row.s_churn, 0.0), "0"));
            all.extend([fixed("s_tmin", "0"), fixed("s_tmax", "inf"), fixed("s_noise", "1")]);
        }
        "euler_ancestral" => {
            all.push(("eta", number(row.eta, 1.0), "1"));
            all.push(fixed("s_noise", "1"));
        }
        "lms" => all.push(("order", row.order.unwrap_or(4).to_string(), "4")),
        "ddim" => {
            // The lesson's: its clamp is wider where the noise level is estimated.
            let clamp =
                if row.variant.as_deref().is_some_and(|v| v.contains("estimated")) { "4" } else { "3" };
            all.push(("eta", number(row.eta, 1.0), "1"));
            all.extend([("clamp", clamp.to_string(), "inf"), ("floor", "0.01".to_string(), "0")]);
            all.extend([("scale", "0.5".to_string(), "1"), ("spacing", "ddim".to_string(), "karras")]);
        }
        _ => {}
    }
    if row.sampler != "ddim" {
        all.push(fixed("spacing", "karras"));
        all.push(("rho", number(row.rho, 7.0), "7"));
        all.push(("sigma_min", number(row.sigma_min, 0.01), "0.01"));
        all.push(("sigma_max", number(row.sigma_max, 80.0), "80"));
    }
    all
}
