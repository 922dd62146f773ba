//! The options that samplers share.

/// Defines a sampler's struct of options with their help, defaults and ranges, and its table of `OptionInfo`. `churn;`
/// stands for the options of churn, and `fresh_noise;`, before others, for those of samplers that take fresh noise.
macro_rules! options {
    ( $(#[$doc:meta])* pub struct $name:ident { churn; } ) => {
        $crate::options::options! {
            $(#[$doc])*
            pub struct $name {
                /// How much noise is added back over all steps: γ = min(S_churn/N, √2 − 1) a step
                s_churn: f64 = 0.0, $crate::Domain::Number(0.0, 1e6);
                /// The smallest σ at which churn adds noise
                s_tmin: f64 = 0.0, $crate::Domain::Number(0.0, 1e6);
                /// The largest σ at which churn adds noise
                s_tmax: f64 = f64::INFINITY, $crate::Domain::Number(0.0, f64::INFINITY);
                /// Standard deviation of the noise that churn adds
                s_noise: f64 = 1.0, $crate::Domain::Number(0.0, 1e3);
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
                s_noise: f64 = 1.0, $crate::Domain::Number(0.0, 1e3);
                $($others)*
            }
        }
    };
    ( $($all:tt)* ) => { elucidate_schedules::options! { $($all)* } };
}
pub(crate) use options;
