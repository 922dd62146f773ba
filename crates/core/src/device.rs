//! The device that tensors live on.

use candle_core::{Device, Result};
use std::str::FromStr;

/// Which device a run asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// The first CUDA device.
    Cuda,
    /// The first CUDA device where this build and machine have one, else the processor.
    Auto,
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// When CUDA is asked for and this build or machine has none.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => Device::new_cuda(0),
            Self::Auto => Device::cuda_if_available(0),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "auto" => Ok(Self::Auto),
            _ => Err("expected cpu, cuda or auto".to_string()),
        }
    }
}
