//! The options that sample settings of one's own, instead of the notebook's list.

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use elucidate_samplers::{Sampler, Setting, SettingError};
use elucidate_schedules::Preconditioning;

/// Settings to be sampled instead of the notebook's: `--setting TEXT`, any number of times, and `--sampler` with its options. The options
/// are those of all samplers, by their names there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OneSetting {
    texts: Vec<String>,
    sampler: Option<String>,
    options: Vec<(String, String)>,
}

const HEADING: &str = "Settings of one's own";

impl OneSetting {
    /// The settings that are asked for, else those of `default`, for a model that begins at its largest σ by default.
    ///
    /// # Errors
    /// One line that names the option or the word that is impossible, and what there is; also where the noise levels would not fall.
    pub fn or(&self, default: Vec<Setting>, model: &Preconditioning) -> Result<Vec<Setting>> {
        let mut settings = vec![];
        for text in &self.texts {
            settings.push(Setting::parse(text, model).map_err(|e| anyhow!("--setting {text:?}: {e}"))?);
        }
        if let Some(sampler) = &self.sampler {
            let setting = Setting::from_options(sampler, &self.options, model);
            settings.push(setting.map_err(|error| anyhow!(as_option(error)))?);
        }
        if settings.is_empty() {
            for setting in &default {
                setting.sigmas(model).with_context(|| format!("{setting}, which is sampled by default"))?;
            }
            return Ok(default);
        }
        Ok(settings)
    }

    /// Whether any are asked for.
    pub fn is_given(&self) -> bool {
        self.sampler.is_some() || !self.texts.is_empty()
    }
}

/// The error in the words of the command line.
fn as_option(error: SettingError) -> String {
    match error {
        SettingError::Value { name, value, domain } => {
            format!("--{} {value} is impossible: give {domain}", kebab(&name))
        }
        SettingError::Unknown { sampler, name, known, .. } => {
            let known: Vec<String> = known.iter().map(|name| format!("--{}", kebab(name))).collect();
            format!("--{} is no option of --sampler {sampler}: it has {}", kebab(&name), known.join(", "))
        }
        SettingError::Sampler { .. } => format!("--sampler: {error}"),
        other => other.to_string(),
    }
}

fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

impl Args for OneSetting {
    fn augment_args(command: Command) -> Command {
        let names: Vec<&str> = Sampler::ALL.iter().map(|info| info.name).collect();
        let setting = Arg::new("setting")
            .long("setting")
            .value_name("TEXT")
            .action(ArgAction::Append)
            .help("A setting as \"heun steps=20 s_churn=0.5 rho=7\"; may be given any number of times");
        let sampler = Arg::new("sampler")
            .long("sampler")
            .value_name("SAMPLER")
            .help(format!("One sampler, with the options below: {}", names.join(", ")));
        let mut command = command.next_help_heading(HEADING).arg(setting).arg(sampler);
        for option in Setting::all_options() {
            let of: Vec<&str> = Sampler::ALL
                .iter()
                .filter(|info| info.options.iter().any(|known| known.name == option.name))
                .map(|info| info.name)
                .collect();
            let of = if of.is_empty() { String::new() } else { format!(" ({})", of.join(", ")) };
            let arg = Arg::new(option.name)
                .long(kebab(option.name))
                .value_name("VALUE")
                .allow_hyphen_values(true)
                .requires("sampler")
                .help(format!("{}{of}; {}", option.help.trim(), option.domain));
            command = command.arg(arg);
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OneSetting {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &str| matches.get_one::<String>(name).cloned();
        let value = |option: &str| Some((option.to_string(), given(option)?));
        Ok(Self {
            texts: matches.get_many::<String>("setting").into_iter().flatten().cloned().collect(),
            sampler: given("sampler"),
            options: Setting::all_options().iter().filter_map(|option| value(option.name)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
