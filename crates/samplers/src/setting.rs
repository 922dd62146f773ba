//! A setting: a sampler, its options and its noise levels, with one canonical text that parses back.

use crate::{Levels, Sampler, SamplerInfo};
use elucidate_schedules::{
    Domain, ExponentialSteps, KarrasSteps, OptionInfo, Preconditioning, ScheduleError, SigmaSteps,
    SpacingInfo,
};
use fnv::FnvHasher;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::hash::Hasher;
use toml::{Table, Value};

/// A sampler, its options and its noise levels. As text: `heun steps=20 s_churn=0.5`, the sampler's name, then what is not at its
/// default; [`Setting::text`] says everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The sampler.
    #[serde(flatten)]
    pub sampler: Sampler,
    /// Its noise levels; of a sampler that takes a range, σ_min and σ_max alone count.
    #[serde(flatten)]
    pub sigma_steps: SigmaSteps,
}

/// What makes a text no setting.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// No such sampler.
    #[error("there is no sampler {name:?}{}: give one of {}", near(.nearest), names(Sampler::ALL.iter().map(|s| s.name)))]
    Sampler {
        /// What was given.
        name: String,
        /// The sampler that is spelt most like it.
        nearest: Option<&'static str>,
    },
    /// An option that the sampler does not have.
    #[error("{sampler} has no option {name:?}{}: it has {}", near(.nearest), .known.join(", "))]
    Unknown {
        /// The sampler.
        sampler: &'static str,
        /// What was given.
        name: String,
        /// The option that is spelt most like it.
        nearest: Option<String>,
        /// All that there are.
        known: Vec<String>,
    },
    /// A word that is no `option=value`.
    #[error("{word:?}, word {place} of {text:?}, is no option=value")]
    Word {
        /// The word.
        word: String,
        /// Its place, from 1.
        place: usize,
        /// The whole text.
        text: String,
    },
    /// An option twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// A value that is impossible.
    #[error("{name}={value} is impossible: give {domain}")]
    Value {
        /// The option.
        name: String,
        /// What was given.
        value: String,
        /// What it may be.
        domain: String,
    },
    /// Noise levels that are impossible.
    #[error(transparent)]
    Levels(#[from] ScheduleError),
}

fn near(nearest: &Option<impl AsRef<str>>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean {}?)", name.as_ref()))
}

fn names(all: impl Iterator<Item = &'static str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

const SPACING: OptionInfo = OptionInfo {
    name: "spacing",
    help: "How the noise levels are spaced between sigma_max and sigma_min",
    domain: Domain::Names(SigmaSteps::NAMES),
};

impl Setting {
    /// A label's letters, at most.
    pub const LONGEST_LABEL: usize = 120;
    /// Noise levels of spacing=list, at most: more would not fit into a field of a table.
    pub const MOST_LISTED: usize = 500;

    /// A sampler with `steps` of the notebook's σ steps: ρ 7, from 80 to 0.01. Of a sampler that finds its own steps, from 80 to 0.01.
    pub fn notebook(sampler: impl Into<Sampler>, steps: usize) -> Self {
        let sampler = sampler.into();
        let sigma_steps = match sampler.levels() {
            Levels::Steps => KarrasSteps { steps, ..KarrasSteps::default() }.into(),
            Levels::Range => ends(SigmaSteps::from(ExponentialSteps::default())),
        };
        Self { sampler, sigma_steps }
    }

    /// All options of samplers and noise levels, each name once, those of noise levels first.
    pub fn all_options() -> Vec<OptionInfo> {
        let of_steps = SigmaSteps::ALL.iter().flat_map(|info| info.options);
        let of_samplers = Sampler::ALL.iter().flat_map(|info| info.options);
        let mut all = vec![SPACING];
        for option in of_steps.chain(of_samplers) {
            if !all.iter().any(|known| known.name == option.name) {
                all.push(*option);
            }
        }
        all
    }

    /// Parses `sampler option=value option=value …`; what is not given is at its default, σ_max and DDIM's scale at those of the
    /// model.
    ///
    /// # Errors
    /// One line that names what is wrong, and what there is; also where the noise levels of the model would not fall.
    pub fn parse(text: &str, model: &Preconditioning) -> Result<Self, SettingError> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let mut given = vec![];
        for (i, word) in words.enumerate() {
            // "heun 20" is "heun steps=20".
            let pair =
                word.split_once('=').or((i == 0 && word.parse::<usize>().is_ok()).then_some(("steps", word)));
            let Some((option, value)) = pair else {
                return Err(SettingError::Word { word: word.into(), place: i + 2, text: text.into() });
            };
            given.push((option.to_string(), value.to_string()));
        }
        Self::from_options(name, &given, model)
    }

    /// The sampler `name` with the options and values of `given`.
    ///
    /// # Errors
    /// As [`Setting::parse`].
    pub fn from_options(
        name: &str,
        given: &[(String, String)],
        model: &Preconditioning,
    ) -> Result<Self, SettingError> {
        let info = sampler_named(name)?;
        let spacing = given.iter().find(|(option, _)| option == SPACING.name);
        let spacing = spacing_named(info, spacing.map_or("karras", |(_, value)| value))?;
        let known = options_of(info, spacing);
        let (mut sampler, mut steps) = (Table::new(), Table::new());
        for (option, value) in given {
            let option = known_option(info, &known, option)?;
            let value = parse_value(option, value)?;
            let table = if has(info.options, option.name) { &mut sampler } else { &mut steps };
            if table.insert(option.name.into(), value).is_some() {
                return Err(SettingError::Twice(option.name.into()));
            }
        }
        let models = [("scale", model.scale), ("sigma_max", model.sigma_max())];
        for (table, options) in [(&mut sampler, info.options), (&mut steps, spacing.options)] {
            for (name, value) in models.iter().filter(|(name, _)| has(options, name)) {
                table.entry(*name).or_insert(Value::Float(*value));
            }
        }
        let setting = Self {
            sampler: read("sampler", info.name, sampler)?,
            sigma_steps: read("spacing", spacing.name, steps)?,
        };
        let setting = match setting.sampler.levels() {
            Levels::Steps => setting,
            Levels::Range => Self { sigma_steps: ends(setting.sigma_steps), ..setting },
        };
        if setting.sigmas(model)?.len() > Self::MOST_LISTED && spacing.name == "list" {
            return Err(SettingError::Value {
                name: "sigmas".into(),
                value: "…".into(),
                domain: format!("at most {} noise levels", Self::MOST_LISTED),
            });
        }
        Ok(setting)
    }

    /// The canonical text: the sampler's name, then every option with its value, in a fixed order. It is the key of a row, and parses
    /// back to the same setting.
    pub fn text(&self) -> String {
        self.write(|_| true)
    }

    /// The text without what is at its default, the steps bare: `heun 20 s_churn=0.5`. Of a long one the beginning, and a hash of the
    /// whole; others parse back too, for a model whose default σ_max is 80 and whose scale is 1.
    pub fn label(&self) -> String {
        let label = self.whole_label();
        if label.len() <= Self::LONGEST_LABEL {
            return label;
        }
        let mut hasher = FnvHasher::default();
        hasher.write(label.as_bytes());
        format!("{}..{:016x}", &label[..Self::LONGEST_LABEL - 18], hasher.finish())
    }

    fn whole_label(&self) -> String {
        let default =
            Self { sampler: (self.sampler.info().default)(), sigma_steps: (self.spacing().default)() };
        let mut at_default = default.pairs();
        // The spacing goes without saying where it is the default one.
        at_default.retain(|(name, value)| *name != "steps" && (*name != SPACING.name || value == "karras"));
        self.write(|pair| !at_default.contains(pair)).replacen(" steps=", " ", 1)
    }

    /// What of the label is said of the noise levels, as in `20 steps, sigma_max=10`.
    pub fn levels_label(&self) -> String {
        let label = self.whole_label();
        let words = label.split(' ').skip(1).filter_map(|word| match word.split_once('=') {
            None => Some(format!("{word} steps")),
            Some((name, _)) if name == SPACING.name || has(self.spacing().options, name) => {
                Some(word.to_string())
            }
            Some(_) => None,
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// The label as the part of a file's name: `heun_20_s_churn=0.5`. Settings that differ have files that differ.
    pub fn file_name(&self) -> String {
        self.label().replace(' ', "_")
    }

    /// The noise levels for a model, from σ_max down.
    ///
    /// # Errors
    /// When they would not fall strictly: one line that names the value at fault.
    pub fn sigmas(&self, model: &Preconditioning) -> Result<Vec<f64>, SettingError> {
        let mut sigmas = self.sigma_steps.sigmas(&model.schedule, model.scale)?;
        if self.sampler.levels() == Levels::Range {
            sigmas.pop();
        }
        Ok(sigmas)
    }

    /// The value of an option, where the setting has it.
    pub fn number(&self, option: &str) -> Option<f64> {
        self.pairs().into_iter().find(|(name, _)| *name == option)?.1.parse().ok()
    }

    /// Every option and its value, in a fixed order.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let table = Table::try_from(self).unwrap_or_default();
        let of = |option: &OptionInfo| Some((option.name, print(table.get(option.name)?)));
        options_of(self.sampler.info(), self.spacing()).iter().filter_map(of).collect()
    }

    fn spacing(&self) -> &'static SpacingInfo {
        SigmaSteps::info(self.sigma_steps.name()).expect("every spacing is registered")
    }

    fn write(&self, keep: impl Fn(&(&'static str, String)) -> bool) -> String {
        let mut text = self.sampler.name().to_string();
        for pair in self.pairs().into_iter().filter(keep) {
            let _ = write!(text, " {}={}", pair.0, pair.1);
        }
        text
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.label())
    }
}

/// The options of a sampler and its noise levels, in the order of the canonical text.
fn options_of(sampler: &SamplerInfo, spacing: &SpacingInfo) -> Vec<OptionInfo> {
    let (steps, others): (Vec<_>, Vec<_>) = spacing.options.iter().partition(|option| option.name == "steps");
    match (sampler.default)().levels() {
        Levels::Steps => [&steps, sampler.options, &[SPACING], &others].concat(),
        Levels::Range => [sampler.options, &others].concat(),
    }
}

/// The same with two steps, σ_max and σ_min, for a sampler that takes nothing else.
fn ends(steps: SigmaSteps) -> SigmaSteps {
    match steps {
        SigmaSteps::Exponential(steps) => ExponentialSteps { steps: 2, ..steps }.into(),
        other => other,
    }
}

fn has(options: &[OptionInfo], name: &str) -> bool {
    options.iter().any(|option| option.name == name)
}

/// The option `name` among those that are `known`.
fn known_option<'a>(
    sampler: &SamplerInfo,
    known: &'a [OptionInfo],
    name: &str,
) -> Result<&'a OptionInfo, SettingError> {
    known.iter().find(|option| option.name == name).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(|known| known.name.to_string()).collect();
        SettingError::Unknown {
            sampler: sampler.name,
            name: name.to_string(),
            nearest: nearest(name, known.iter().map(String::as_str)).map(String::from),
            known,
        }
    })
}

/// Reads what `name` is with these options, the rest at their defaults.
fn read<T: DeserializeOwned>(tag: &str, name: &str, mut options: Table) -> Result<T, SettingError> {
    options.insert(tag.into(), Value::String(name.into()));
    options.try_into().map_err(|error: toml::de::Error| SettingError::Value {
        name: tag.into(),
        value: name.into(),
        domain: error.message().to_string(),
    })
}

/// The spacing `name`; of a sampler that finds its own steps, one that has σ_max and σ_min alone.
fn spacing_named(sampler: &SamplerInfo, name: &str) -> Result<&'static SpacingInfo, SettingError> {
    let name = match (sampler.default)().levels() {
        Levels::Steps => name,
        Levels::Range => "exponential",
    };
    SigmaSteps::info(name).ok_or_else(|| SettingError::Value {
        name: SPACING.name.into(),
        value: name.into(),
        domain: SPACING.domain.to_string(),
    })
}

fn sampler_named(name: &str) -> Result<&'static SamplerInfo, SettingError> {
    Sampler::ALL.iter().find(|info| info.name == name).ok_or_else(|| SettingError::Sampler {
        name: name.to_string(),
        nearest: nearest(name, Sampler::ALL.iter().map(|info| info.name)),
    })
}

/// The name that is spelt most like `name`, where one is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &&str| strsim::jaro_winkler(name, other);
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|best| likeness(best) > 0.7)
}

fn parse_value(option: &OptionInfo, text: &str) -> Result<Value, SettingError> {
    let wrong = || SettingError::Value {
        name: option.name.to_string(),
        value: text.to_string(),
        domain: option.domain.to_string(),
    };
    let value = match option.domain {
        Domain::Whole(..) => Value::Integer(text.parse().map_err(|_| wrong())?),
        Domain::Names(_) => Value::String(text.to_string()),
        Domain::List(..) => {
            let numbers: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
            Value::Array(numbers.map_err(|_| wrong())?.into_iter().map(Value::Float).collect())
        }
        // −0 is 0.
        _ => Value::Float(text.parse::<f64>().map_err(|_| wrong())? + 0.0),
    };
    if allows(option.domain, &value) { Ok(value) } else { Err(wrong()) }
}

fn allows(domain: Domain, value: &Value) -> bool {
    match (domain, value) {
        (Domain::Number(..), Value::Float(v)) => domain.holds(*v),
        (Domain::List(..), Value::Array(all)) => {
            all.iter().all(|v| v.as_float().is_some_and(|v| domain.holds(v)))
        }
        (Domain::Whole(..), Value::Integer(v)) => domain.holds(*v as f64),
        (Domain::Names(names), Value::String(v)) => names.contains(&v.as_str()),
        _ => false,
    }
}

/// A value as the canonical text has it: the shortest digits that are read back as the same number.
fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => number.to_string(),
        Value::Array(all) => all.iter().map(print).collect::<Vec<_>>().join(","),
        Value::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Refuses options of a sampler that are out of their ranges.
pub(crate) fn check_options(sampler: &Sampler) -> Result<(), SettingError> {
    let table = Table::try_from(sampler).unwrap_or_default();
    for option in sampler.info().options {
        let value = table.get(option.name);
        if !value.is_some_and(|value| allows(option.domain, value)) {
            return Err(SettingError::Value {
                name: option.name.to_string(),
                value: value.map_or_else(String::new, print),
                domain: option.domain.to_string(),
            });
        }
    }
    Ok(())
}
