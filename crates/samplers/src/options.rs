//! What a sampler's options are: names, defaults, ranges, help.

/// One option of a sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionInfo {
    /// Its name, as k-diffusion has it.
    pub name: &'static str,
    /// What it is, a line.
    pub help: &'static str,
    /// What it may be.
    pub domain: Domain,
}

/// What an option may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Domain {
    /// A number from `.0` to `.1`, both included; ∞ where the latter is.
    Number(f64, f64),
    /// A number above 0.
    Positive,
    /// A whole number from `.0` to `.1`, both included.
    Whole(u64, u64),
    /// One of these names.
    Names(&'static [&'static str]),
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Number(from, to) if to.is_infinite() => write!(f, "{from} or more"),
            Self::Number(from, to) => write!(f, "{from} to {to}"),
            Self::Positive => write!(f, "a number above 0"),
            Self::Whole(from, to) => write!(f, "a whole number, {from} to {to}"),
            Self::Names(names) => write!(f, "{}", names.join(" or ")),
        }
    }
}

/// Defines a sampler's struct of options with their help, defaults and ranges; how it comes by its table of [`OptionInfo`]. `churn;`
/// stands for the options of churn, and `fresh_noise;`, before others, for those of samplers that take fresh noise.
macro_rules! options {
    ( $(#[$doc:meta])* pub struct $name:ident { churn; } ) => {
        $crate::options::options! {
            $(#[$doc])*
            pub struct $name {
                /// How much noise is added back over all steps: γ = min(S_churn/N, √2 − 1) a step
                s_churn: f64 = 0.0, $crate::Domain::Number(0.0, f64::INFINITY);
                /// The smallest σ at which churn adds noise
                s_tmin: f64 = 0.0, $crate::Domain::Number(0.0, f64::INFINITY);
                /// The largest σ at which churn adds noise
                s_tmax: f64 = f64::INFINITY, $crate::Domain::Number(0.0, f64::INFINITY);
                /// Standard deviation of the noise that churn adds
                s_noise: f64 = 1.0, $crate::Domain::Number(0.0, f64::INFINITY);
            }
        }

        impl $name {
            fn churn(&self) -> $crate::sampling::Churn {
                let Self { s_churn, s_tmin, s_tmax, s_noise } = *self;
                $crate::sampling::Churn { s_churn, s_tmin, s_tmax, s_noise }
            }
        }
    };
    ( $(#[$doc:meta])* pub struct $name:ident { fresh_noise; $($others:tt)* } ) => {
        $crate::options::options! {
            $(#[$doc])*
            pub struct $name {
                /// How much fresh noise a step takes: 0 (none) to 1 (as much as Ho 2020)
                eta: f64 = 1.0, $crate::Domain::Number(0.0, 1.0);
                /// Standard deviation of the fresh noise, beside what eta says
                s_noise: f64 = 1.0, $crate::Domain::Number(0.0, f64::INFINITY);
                $($others)*
            }
        }
    };
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $( $(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr, $domain:expr; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $name {
            pub(crate) const OPTIONS: &'static [$crate::OptionInfo] = &[
                $( $crate::OptionInfo {
                    name: stringify!($field),
                    help: concat!($($help),+),
                    domain: $domain,
                }, )*
            ];
        }
    };
}
pub(crate) use options;
