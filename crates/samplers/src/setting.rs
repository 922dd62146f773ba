//! A setting: a sampler, its options and its noise levels, with one canonical text that parses back.

use crate::options::Domain;
use crate::{Levels, OptionInfo, Sampler, SamplerInfo};
use elucidate_schedules::{Preconditioning, ScheduleError, SigmaSteps, Spacing};
use serde::Serialize;
use std::fmt::Write;
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

/// The options of the noise levels, beside a spacing's own.
const STEPS: OptionInfo = OptionInfo {
    name: "steps",
    help: "Steps, the last one down to sigma 0",
    domain: Domain::Whole(1, SigmaSteps::MOST as u64),
};
const SIGMA_MIN: OptionInfo =
    OptionInfo { name: "sigma_min", help: "The smallest sigma above 0", domain: Domain::Positive };
const SIGMA_MAX: OptionInfo = OptionInfo {
    name: "sigma_max",
    help: "The sigma to begin with [default: the schedule's largest, at most 80]",
    domain: Domain::Number(0.0, Setting::LARGEST_SIGMA),
};
const SPACING: OptionInfo = OptionInfo {
    name: "spacing",
    help: "How the noise levels are spaced between sigma_max and sigma_min",
    domain: Domain::Names(Spacing::NAMES),
};
const RHO: OptionInfo = OptionInfo {
    name: "rho",
    help: "Curvature of the sigma steps of karras [default: 7] and polyexponential [default: 1]",
    domain: Domain::Positive,
};
const OF_IDDPM: &[OptionInfo] = &[
    OptionInfo { name: "c1", help: "C1 of iddpm's steps", domain: Domain::Number(0.0, 1.0) },
    OptionInfo { name: "c2", help: "C2 of iddpm's steps", domain: Domain::Positive },
    OptionInfo { name: "j0", help: "j0 of iddpm's steps", domain: Domain::Whole(0, 998) },
];
const SIGMAS: OptionInfo = OptionInfo {
    name: "sigmas",
    help: "The noise levels of spacing=list, as in 80,10,1,0.1",
    domain: Domain::Positive,
};

/// The options of a spacing.
fn of_spacing(name: &str) -> Vec<OptionInfo> {
    match name {
        "karras" | "polyexponential" => vec![RHO],
        "iddpm" => OF_IDDPM.to_vec(),
        "list" => vec![SIGMAS],
        _ => vec![],
    }
}

impl Setting {
    /// Beyond, x is nothing but noise many times over, and its squares leave f32.
    pub const LARGEST_SIGMA: f64 = 1e6;
    /// Steps where none are given.
    pub const STEPS: usize = 20;
    /// The notebook's smallest σ.
    pub const SIGMA_MIN: f64 = 0.01;

    /// A sampler with `steps` of the notebook's σ steps: ρ 7, from 80 to 0.01.
    pub fn notebook(sampler: impl Into<Sampler>, steps: usize) -> Self {
        let spacing = Spacing::Karras { rho: 7.0 };
        Self {
            sampler: sampler.into(),
            sigma_steps: SigmaSteps { steps, sigma_min: Self::SIGMA_MIN, sigma_max: 80.0, spacing },
        }
    }

    /// All options of samplers and noise levels, each name once, those of noise levels first.
    pub fn all_options() -> Vec<OptionInfo> {
        let mut all = vec![STEPS, RHO, SIGMA_MIN, SIGMA_MAX, SPACING];
        all.extend(OF_IDDPM);
        all.push(SIGMAS);
        for option in Sampler::ALL.iter().flat_map(|info| info.options) {
            if !all.iter().any(|known| known.name == option.name) {
                all.push(*option);
            }
        }
        all
    }

    /// Parses `sampler option=value option=value …`; what is not given is at its default, σ_max at `sigma_max`.
    ///
    /// # Errors
    /// One line that names what is wrong, and what there is.
    pub fn parse(text: &str, sigma_max: f64) -> Result<Self, SettingError> {
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
        Self::from_options(name, &given, sigma_max)
    }

    /// The sampler `name` with the options and values of `given`.
    ///
    /// # Errors
    /// As [`Setting::parse`].
    pub fn from_options(
        name: &str,
        given: &[(String, String)],
        sigma_max: f64,
    ) -> Result<Self, SettingError> {
        let info = sampler_named(name)?;
        let default_sampler = (info.default)();
        let spacing =
            given.iter().find(|(option, _)| option == "spacing").map_or("karras", |(_, value)| value);
        let known = options_of(info, &default_sampler, spacing);
        let mut table = Table::new();
        table.insert("sampler".into(), Value::String(info.name.into()));
        for (option, value) in given {
            let Some(option) = known.iter().find(|known| known.name == option) else {
                let known: Vec<String> = known.iter().map(|known| known.name.to_string()).collect();
                return Err(SettingError::Unknown {
                    sampler: info.name,
                    name: option.clone(),
                    nearest: nearest(option, known.iter().map(String::as_str)).map(String::from),
                    known,
                });
            };
            let value = parse_value(option, value)?;
            if table.insert(option.name.into(), value).is_some() {
                return Err(SettingError::Twice(option.name.into()));
            }
        }
        let mut default = |name: &str, value: Value| {
            table.entry(name).or_insert(value);
        };
        default("spacing", Value::String("karras".into()));
        default("steps", Value::Integer(Self::STEPS as i64));
        default("sigma_min", Value::Float(Self::SIGMA_MIN));
        default("sigma_max", Value::Float(sigma_max));
        if spacing == "list" && !table.contains_key("sigmas") {
            return Err(SettingError::Value {
                name: "sigmas".into(),
                value: String::new(),
                domain: "the noise levels of spacing=list, as in sigmas=80,10,1,0.1".into(),
            });
        }
        let of_sampler: Table = table
            .iter()
            .filter(|(key, _)| *key == "sampler" || info.options.iter().any(|option| option.name == *key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let wrong = |error: toml::de::Error| SettingError::Value {
            name: info.name.into(),
            value: String::new(),
            domain: error.message().to_string(),
        };
        let sampler = of_sampler.try_into().map_err(wrong)?;
        table.retain(|key, _| key != "sampler" && !info.options.iter().any(|option| option.name == key));
        let sigma_steps: SigmaSteps = table.try_into().map_err(wrong)?;
        Ok(Self { sampler, sigma_steps })
    }

    /// The canonical text: the sampler's name, then every option with its value, in a fixed order. It is the key of a row, and parses
    /// back to the same setting.
    pub fn text(&self) -> String {
        self.write(|_| true)
    }

    /// The text without what is at its default, the steps bare: `heun 20 s_churn=0.5`. It parses back too, where the default
    /// σ_max is 80.
    pub fn label(&self) -> String {
        let default = Self::notebook((self.sampler.info().default)(), self.sigma_steps.steps);
        let mut at_default = default.pairs();
        if let Spacing::Karras { .. } = self.sigma_steps.spacing {
        } else {
            // Of another spacing, its own defaults.
            let text = format!("{} spacing={}", self.sampler.name(), self.sigma_steps.spacing.name());
            if let Ok(default) = Self::parse(&text, 80.0) {
                at_default = default.pairs().into_iter().filter(|(name, _)| *name != "spacing").collect();
            }
        }
        self.write(|(name, value)| {
            *name == "steps" || !at_default.iter().any(|(n, v)| n == name && v == value)
        })
        .replacen(" steps=", " ", 1)
    }

    /// The label as the part of a file's name: `heun_20_s_churn=0.5`. Settings whose labels differ have files that differ.
    pub fn file_name(&self) -> String {
        self.label().replace(' ', "_")
    }

    /// The noise levels for a model, from σ_max down.
    ///
    /// # Errors
    /// When they would not fall strictly: one line that names the value at fault.
    pub fn sigmas(&self, model: &Preconditioning) -> Result<Vec<f64>, SettingError> {
        match self.sampler.levels() {
            Levels::Steps => Ok(self.sigma_steps.sigmas(&model.schedule, model.scale)?),
            Levels::Range => {
                let range =
                    SigmaSteps { steps: 2, spacing: Spacing::Exponential {}, ..self.sigma_steps.clone() };
                let mut sigmas = range.sigmas(&model.schedule, model.scale)?;
                sigmas.pop();
                Ok(sigmas)
            }
        }
    }

    /// Network evaluations for each sample; none where only a run tells.
    pub fn nfe(&self) -> Option<usize> {
        let steps = match self.sigma_steps.spacing {
            Spacing::Ddim {} => self.sigma_steps.steps - 1,
            Spacing::Uneven {} => 296,
            Spacing::List { ref sigmas } => sigmas.iter().filter(|&&sigma| sigma > 0.0).count(),
            _ => self.sigma_steps.steps,
        };
        self.sampler.nfe(steps)
    }

    /// The value of an option, where the setting has it.
    pub fn number(&self, option: &str) -> Option<f64> {
        self.pairs().into_iter().find(|(name, _)| *name == option)?.1.parse().ok()
    }

    /// Every option and its value, in a fixed order.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let table = Table::try_from(self).unwrap_or_default();
        let of = |option: &OptionInfo| Some((option.name, print(table.get(option.name)?)));
        options_of(self.sampler.info(), &self.sampler, self.sigma_steps.spacing.name())
            .iter()
            .filter_map(of)
            .collect()
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
fn options_of(info: &SamplerInfo, sampler: &Sampler, spacing: &str) -> Vec<OptionInfo> {
    let mut all = match sampler.levels() {
        Levels::Steps => vec![STEPS],
        Levels::Range => vec![],
    };
    all.extend(info.options);
    if sampler.levels() == Levels::Steps {
        all.push(SPACING);
        all.extend(of_spacing(spacing));
    }
    all.extend([SIGMA_MIN, SIGMA_MAX]);
    all
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
    if option.name == "sigmas" {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(str::parse).collect();
        return Ok(Value::Array(numbers.map_err(|_| wrong())?.into_iter().map(Value::Float).collect()));
    }
    let value = match option.domain {
        Domain::Whole(..) => Value::Integer(text.parse().map_err(|_| wrong())?),
        Domain::Number(..) | Domain::Positive => Value::Float(text.parse().map_err(|_| wrong())?),
        Domain::Names(_) => Value::String(text.to_string()),
    };
    if allows(option.domain, &value) { Ok(value) } else { Err(wrong()) }
}

fn allows(domain: Domain, value: &Value) -> bool {
    match (domain, value) {
        (Domain::Number(from, to), Value::Float(v)) => (from..=to).contains(v),
        (Domain::Positive, Value::Float(v)) => *v > 0.0,
        (Domain::Positive, Value::Array(all)) => all.iter().all(|v| v.as_float().is_some_and(|v| v >= 0.0)),
        (Domain::Whole(from, to), Value::Integer(v)) => {
            u64::try_from(*v).is_ok_and(|v| (from..=to).contains(&v))
        }
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
