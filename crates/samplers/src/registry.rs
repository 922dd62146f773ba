//! The samplers by name. One line each registers them.

use crate::sampling::{Callback, Sampling};
use crate::{Denoiser, NoiseSource};
use candle_core::{DType, Result, Tensor, bail};
use elucidate_schedules::OptionInfo;

/// What a sampler takes for noise levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Steps, going down.
    Steps,
    /// σ_max and σ_min alone: it finds its own steps.
    Range,
}

/// A sampler: the options are its fields, `sample` the algorithm. It is used through [`Sampler`].
pub trait Sample {
    /// From noise `x` at scale `sigmas[0]` down to the last of `sigmas`.
    ///
    /// # Errors
    /// When the model, the noise or the callback fails.
    fn sample(&self, sampling: &mut Sampling, x: Tensor, sigmas: &[f64]) -> Result<Tensor>;

    /// Network evaluations for each sample in `steps` steps, the last one down to σ = 0; none where only a run tells. One a step
    /// unless a sampler says otherwise.
    fn nfe(&self, steps: usize) -> Option<usize> {
        Some(steps)
    }

    /// What it takes for noise levels.
    fn levels(&self) -> Levels {
        Levels::Steps
    }

    /// Standard deviation of the noise to begin with at noise level `sigma`.
    fn start_std(&self, sigma: f64) -> f64 {
        sigma
    }

    /// Whether it solves the SDE: then its noise should come from a Brownian path ([`crate::BrownianPaths`]), so that runs with
    /// different numbers of steps compare.
    fn is_sde(&self) -> bool {
        false
    }

    /// Whether a sample depends on those beside it.
    fn looks_across_images(&self) -> bool {
        false
    }
}

/// What a sampling gives.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The images.
    pub images: Tensor,
    /// Network evaluations for each of them.
    pub nfe: usize,
}

/// What is known of a sampler without making one.
#[derive(Debug, Clone, Copy)]
pub struct SamplerInfo {
    /// Its name in options and tables.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [OptionInfo],
    /// With all options at their defaults.
    pub default: fn() -> Sampler,
}

macro_rules! registry {
    ($($name:literal => $module:ident::$kind:ident,)*) => {
        $(mod $module;)*
        $(pub use $module::$kind;)*

        /// A sampler and its options.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "sampler")]
        #[non_exhaustive]
        pub enum Sampler {
            $(
                #[doc = concat!("[`", stringify!($kind), "`].")]
                #[serde(rename = $name)]
                $kind($kind),
            )*
        }

        impl Sampler {
            /// All samplers.
            pub const ALL: &'static [SamplerInfo] = &[
                $(SamplerInfo {
                    name: $name,
                    options: $kind::OPTIONS,
                    default: || Sampler::$kind($kind::default()),
                },)*
            ];

            /// Its name in options and tables.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }

            fn algorithm(&self) -> &dyn Sample {
                match self {
                    $(Self::$kind(options) => options,)*
                }
            }
        }

        $(
            impl From<$kind> for Sampler {
                fn from(options: $kind) -> Self {
                    Self::$kind(options)
                }
            }
        )*
    };
}
pub(crate) use registry;

use crate::Sampler;

impl Sampler {
    /// What is known of it.
    pub fn info(&self) -> &'static SamplerInfo {
        let of_name = |info: &&SamplerInfo| info.name == self.name();
        Self::ALL.iter().find(of_name).expect("every sampler is registered")
    }

    /// See [`Sample::nfe`].
    pub fn nfe(&self, steps: usize) -> Option<usize> {
        self.algorithm().nfe(steps)
    }

    /// See [`Sample::levels`].
    pub fn levels(&self) -> Levels {
        self.algorithm().levels()
    }

    /// See [`Sample::start_std`].
    pub fn start_std(&self, sigma: f64) -> f64 {
        self.algorithm().start_std(sigma)
    }

    /// See [`Sample::is_sde`].
    pub fn is_sde(&self) -> bool {
        self.algorithm().is_sde()
    }

    /// See [`Sample::looks_across_images`].
    pub fn looks_across_images(&self) -> bool {
        self.algorithm().looks_across_images()
    }

    /// Samples: from noise `x` (n, …) of standard deviation [`Sampler::start_std`] at `sigmas[0]`, down to the last of `sigmas`, which is
    /// usually 0; of a sampler that takes a range, `sigmas` are σ_max and σ_min. The images keep x's dtype; f16 and bf16 become
    /// f32, since steps add up. `callback` is told of each step.
    ///
    /// # Errors
    /// When the σ do not go down, an option is out of its range, or the model, the noise or the callback fails.
    pub fn sample(
        &self,
        denoiser: &dyn Denoiser,
        x: &Tensor,
        sigmas: &[f64],
        noise: &mut dyn NoiseSource,
        callback: Callback,
    ) -> Result<Sampled> {
        self.check_levels(sigmas)?;
        if let Err(error) = crate::setting::check_options(self) {
            bail!("{error}");
        }
        let x = match x.dtype() {
            DType::F64 => x.detach(),
            _ => x.to_dtype(DType::F32)?.detach(),
        };
        let mut sampling = Sampling::new(denoiser, noise, callback);
        let images = self.algorithm().sample(&mut sampling, x, sigmas)?;
        Ok(Sampled { images, nfe: sampling.evaluations() })
    }

    fn check_levels(&self, sigmas: &[f64]) -> Result<()> {
        let down = sigmas.windows(2).all(|pair| pair[0] > pair[1]) && sigmas.iter().all(|s| s.is_finite());
        let (last, count) = (sigmas.last().copied().unwrap_or(-1.0), sigmas.len());
        match self.levels() {
            Levels::Steps if !(down && count >= 2 && last >= 0.0) => {
                bail!("sigma steps must go down from a positive sigma to 0 or above, at least two of them")
            }
            Levels::Range if !(down && count == 2 && last > 0.0) => {
                bail!("{} takes sigma_max and sigma_min, both above 0, and finds its own steps", self.name())
            }
            _ => Ok(()),
        }
    }
}
