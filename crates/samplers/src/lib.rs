#![doc = include_str!("../README.md")]

mod choice;
mod denoiser;
mod dpm_solver;
mod noise;
mod options;
mod registry;
mod sampling;
mod setting;

pub use choice::{ChoiceError, parse_choice};
pub use denoiser::{Denoiser, Preconditioned, TrainingBatch};
pub use noise::{BrownianPaths, ImageNoise, NoiseSource};
pub use registry::{Levels, Sample, Sampled, SamplerInfo};
pub use sampling::{Callback, Sampling, Step};
pub use setting::{Setting, SettingError};

use elucidate_schedules::Domain;
use registry::registry;
use serde::{Deserialize, Serialize};

registry! {
    "euler" => euler::Euler,
    "euler_ancestral" => euler_ancestral::EulerAncestral,
    "heun" => heun::Heun,
    "dpm_2" => dpm_2::Dpm2,
    "dpm_2_ancestral" => dpm_2_ancestral::Dpm2Ancestral,
    "lms" => lms::Lms,
    "dpm_fast" => dpm_fast::DpmFast,
    "dpm_adaptive" => dpm_adaptive::DpmAdaptive,
    "dpmpp_2s_ancestral" => dpmpp_2s_ancestral::Dpmpp2sAncestral,
    "dpmpp_sde" => dpmpp_sde::DpmppSde,
    "dpmpp_2m" => dpmpp_2m::Dpmpp2m,
    "dpmpp_2m_sde" => dpmpp_2m_sde::Dpmpp2mSde,
    "dpmpp_3m_sde" => dpmpp_3m_sde::Dpmpp3mSde,
    "ddim" => ddim::Ddim,
}
