//! A choice as text: its name and options, as in `sigmoid start=-3 end=3 tau=0.9`.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// What makes a text no choice: one line that says what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChoiceError(String);

/// Parses `name option=value …` as one of the choices of `elucidate-schedules` (a noise schedule, a prediction, …), whose serialised form
/// has its name under the key `tag`. What is not given is at its default.
///
/// # Errors
/// When there is no such choice or option, or a word is no option=value.
pub fn parse_choice<T: DeserializeOwned>(tag: &str, text: &str) -> Result<T, ChoiceError> {
    let mut words = text.split_whitespace();
    let name = words.next().ok_or_else(|| ChoiceError("it is empty: give a name".to_string()))?;
    let mut table = Table::new();
    table.insert(tag.to_string(), Value::String(name.to_string()));
    for (i, word) in words.enumerate() {
        let no_option = || ChoiceError(format!("{word:?}, word {}, is no option=value", i + 2));
        let (option, value) = word.split_once('=').ok_or_else(no_option)?;
        if table.insert(option.to_string(), parse_value(value)).is_some() {
            return Err(ChoiceError(format!("{option} is given twice")));
        }
    }
    table.try_into().map_err(|error: toml::de::Error| {
        ChoiceError(error.message().lines().next().unwrap_or("it is impossible").to_string())
    })
}

fn parse_value(text: &str) -> Value {
    let number = || text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::Float));
    number().unwrap_or_else(|_| Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use elucidate_schedules::{NoiseInput, NoiseSchedule, Prediction, TrainingNoise};

    #[test]
    fn choices_are_read_with_their_defaults() {
        let schedule: NoiseSchedule = parse_choice("schedule", "sigmoid end=3.5 tau=1").unwrap();
        assert_eq!(schedule, NoiseSchedule::Sigmoid { start: -3.0, end: 3.5, tau: 1.0 });
        for name in NoiseSchedule::NAMES {
            parse_choice::<NoiseSchedule>("schedule", name).unwrap();
        }
        let prediction: Prediction =
            parse_choice("prediction", "edm mean=-0.4 noise_input=quarter-log-sigma").unwrap();
        let noise_input = NoiseInput::QuarterLogSigma;
        assert_eq!(prediction, Prediction::Edm { sigma_data: 0.66, noise_input, mean: -0.4 });
        let noise: TrainingNoise = parse_choice("training_noise", "log_normal p_std=2").unwrap();
        assert_eq!(noise, TrainingNoise::LogNormal { p_mean: -1.2, p_std: 2.0 });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("", "empty"),
            ("cosin", "cosine"),
            ("cosine tua=1", "tua"),
            ("cosine 1", "\"1\", word 2"),
            ("cosine tau=1 tau=2", "tau is given twice"),
            ("cosine tau=x", "x"),
        ] {
            let error = parse_choice::<NoiseSchedule>("schedule", text).unwrap_err().to_string();
            assert!(error.contains(what) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
