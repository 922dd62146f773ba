//! The distribution of noise levels in training, and how errors at each of them count.

use crate::{NoiseSchedule, Preconditioning, ScheduleError, SigmaSteps};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use std::f64::consts::PI;

/// The distribution of σ in training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "training_noise", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum TrainingNoise {
    /// ln σ is normal (Karras 2022, table 1).
    LogNormal {
        /// Mean of ln σ.
        #[serde(default = "p_mean")]
        p_mean: f64,
        /// Standard deviation of ln σ, above 0.
        #[serde(default = "p_std")]
        p_std: f64,
    },
    /// ln σ is uniform: VE's (Karras 2022, table 1).
    LogUniform {
        /// The smallest σ, above 0.
        #[serde(default = "ve_sigma_min")]
        sigma_min: f64,
        /// The largest.
        #[serde(default = "ve_sigma_max")]
        sigma_max: f64,
    },
    /// t is uniform along the schedule; of numbered times each is as likely.
    UniformTime {},
}

impl Default for TrainingNoise {
    /// The paper's log-normal distribution: −1.2 and 1.2.
    fn default() -> Self {
        Self::LogNormal { p_mean: p_mean(), p_std: p_std() }
    }
}

impl TrainingNoise {
    /// What stands for σ = 0, which some schedules begin with: training takes logarithms of σ, and divides by it.
    pub const SMALLEST_SIGMA: f64 = 1e-8;

    /// The noise level below which a share `u` of \[0,1) lies, in pixels of \[−1,1\]: with `u` uniform it is a draw. `schedule` is
    /// that of [`TrainingNoise::UniformTime`], in the units of pixels of \[−b,b\] with b = `scale`.
    pub fn sigma(&self, u: f64, schedule: &NoiseSchedule, scale: f64) -> f64 {
        match *self {
            Self::LogNormal { p_mean, p_std } => {
                // The smallest number above 0 stands for 0, whose quantile is −∞.
                (p_mean + p_std * Normal::standard().inverse_cdf(u.max(f64::MIN_POSITIVE))).exp()
            }
            Self::LogUniform { sigma_min, sigma_max } => {
                (sigma_min.ln() + u * (sigma_max.ln() - sigma_min.ln())).exp()
            }
            Self::UniformTime {} => (schedule.sigma(time_at(u, schedule)) / scale).max(Self::SMALLEST_SIGMA),
        }
    }

    /// The probability density of ln σ at `sigma` > 0, per unit of ln σ.
    pub fn log_density(&self, sigma: f64, schedule: &NoiseSchedule, scale: f64) -> f64 {
        match *self {
            Self::LogNormal { p_mean, p_std } => {
                let z = (sigma.ln() - p_mean) / p_std;
                (-z * z / 2.0).exp() / (p_std * (2.0 * PI).sqrt())
            }
            Self::LogUniform { sigma_min, sigma_max } => {
                let within = (sigma_min..=sigma_max).contains(&sigma);
                f64::from(u8::from(within)) / (sigma_max / sigma_min).ln()
            }
            Self::UniformTime {} => {
                let (first, last) = schedule.times();
                let (h, s) = (1e-4f64, sigma * scale);
                (schedule.time(s * h.exp()) - schedule.time(s * (-h).exp())) / (2.0 * h * (last - first))
            }
        }
    }

    /// Refuses values that are impossible.
    ///
    /// # Errors
    /// One line that names the value and what it may be.
    pub fn check(&self) -> Result<(), ScheduleError> {
        match *self {
            // Squares of σ must stay in f32.
            Self::LogNormal { p_mean, p_std }
                if !((-10.0..=10.0).contains(&p_mean) && p_std > 0.0 && p_std <= 5.0) =>
            {
                Err(ScheduleError(format!(
                    "p_mean {p_mean} and p_std {p_std}: p_mean must be -10 to 10, p_std above 0 and at most 5"
                )))
            }
            Self::LogUniform { sigma_min, sigma_max }
                if !(sigma_min >= Self::SMALLEST_SIGMA
                    && sigma_min < sigma_max
                    && sigma_max <= SigmaSteps::LARGEST_SIGMA) =>
            {
                Err(ScheduleError(format!(
                    "log_uniform sigma_min={sigma_min} sigma_max={sigma_max}: it needs {} <= sigma_min < sigma_max <= {}",
                    Self::SMALLEST_SIGMA,
                    SigmaSteps::LARGEST_SIGMA
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The time at share `u` of \[0,1) of a schedule's times.
fn time_at(u: f64, schedule: &NoiseSchedule) -> f64 {
    let (first, last) = schedule.times();
    match schedule.steps() {
        Some(steps) => (u * steps as f64).floor().min(last),
        None => first + u * (last - first),
    }
}

/// The share of place `i` of `n`, given `u` uniform in \[0,1): stratified over the n, as k-diffusion's `stratified_uniform` has
/// it, so that every n-th of the distribution is drawn from once.
pub fn stratified(u: f64, i: usize, n: usize) -> f64 {
    (i as f64 + u) / n as f64
}

/// How the squared error of the network's answer counts at each σ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LossWeight {
    /// 1 on the network's own target, as the lesson has it; with [`crate::Prediction::Edm`] this is Karras's λ.
    #[default]
    Unit,
    /// Karras's λ(σ) = (σ² + σ_data²)/(σ·σ_data)² on the error of D, whatever the network predicts (Karras 2022, table 1).
    Edm,
    /// min(SNR, γ) with γ = 5 on the error of D in pixels of \[−b,b\] (Hang 2023).
    MinSnr,
    /// 1/(σ² + σ_data²) on the error of D (Crowson 2024; k-diffusion's `soft-min-snr`).
    SoftMinSnr,
    /// 1/e^u(σ), and u(σ) added, of a u that is learned beside the network (Karras 2024, "EDM2", eq. 14 to 16). The factor
    /// here is 1: training knows u.
    Learned,
}

impl LossWeight {
    /// The names of all kinds.
    pub const NAMES: &'static [&'static str] = &["unit", "edm", "min-snr", "soft-min-snr", "learned"];
    /// γ of [`LossWeight::MinSnr`].
    pub const GAMMA: f64 = 5.0;

    /// The factor of the squared error of the network's answer at noise level `sigma` > 0, in pixels of \[−1,1\];
    /// `sigma_data` is the data's standard deviation.
    pub fn factor(self, sigma: f64, preconditioning: &Preconditioning, sigma_data: f64) -> f64 {
        // The error of D is c_out times that of the network.
        let of_denoiser = |weight: f64| weight * preconditioning.at(sigma).c_out.powi(2);
        let total = sigma.hypot(sigma_data);
        match self {
            Self::Unit | Self::Learned => 1.0,
            Self::Edm => of_denoiser((total / (sigma * sigma_data)).powi(2)),
            Self::MinSnr => {
                let b = preconditioning.scale;
                of_denoiser(b * b * (b * sigma).powi(-2).min(Self::GAMMA))
            }
            Self::SoftMinSnr => of_denoiser(total.powi(-2)),
        }
    }
}

fn p_mean() -> f64 {
    -1.2
}
fn p_std() -> f64 {
    1.2
}
fn ve_sigma_min() -> f64 {
    0.02
}
fn ve_sigma_max() -> f64 {
    100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoiseInput, Prediction};

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn shares_are_quantiles() {
        let cosine = NoiseSchedule::default();
        let log_normal = TrainingNoise::default();
        close(log_normal.sigma(0.5, &cosine, 1.0), (-1.2f64).exp(), 1e-12);
        // 15.87 % of the σ exceed 1: ln σ > 0 is one standard deviation above the mean.
        close(log_normal.sigma(1.0 - 0.158_655_253_931_457, &cosine, 1.0), 1.0, 1e-9);
        assert!(log_normal.sigma(0.0, &cosine, 1.0) >= 0.0);
        close(TrainingNoise::UniformTime {}.sigma(0.5, &cosine, 0.5), 2.0 * cosine.sigma(0.4995), 1e-12);
        let log_uniform = TrainingNoise::LogUniform { sigma_min: 0.02, sigma_max: 100.0 };
        for (u, sigma) in [(0.0, 0.02), (0.5, 2f64.sqrt()), (0.25, 0.02f64.powf(0.75) * 100f64.powf(0.25))] {
            close(log_uniform.sigma(u, &cosine, 1.0), sigma, 1e-12);
        }
        let discrete = NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.02, steps: 10 };
        for (u, t) in [(0.0, 0.0), (0.099, 0.0), (0.1, 1.0), (0.999, 9.0)] {
            close(TrainingNoise::UniformTime {}.sigma(u, &discrete, 1.0), discrete.sigma(t), 1e-12);
        }
    }

    #[test]
    fn the_density_is_that_of_the_draws() {
        let cosine = NoiseSchedule::default();
        let log_uniform = TrainingNoise::LogUniform { sigma_min: 0.02, sigma_max: 100.0 };
        for (noise, scale) in
            [(TrainingNoise::default(), 1.0), (log_uniform, 1.0), (TrainingNoise::UniformTime {}, 0.5)]
        {
            let (from, to) = (noise.sigma(0.2, &cosine, scale).ln(), noise.sigma(0.7, &cosine, scale).ln());
            let n = 20_000;
            let h = (to - from) / f64::from(n);
            let middle = |i: i32| (from + (f64::from(i) + 0.5) * h).exp();
            let mass: f64 = (0..n).map(|i| noise.log_density(middle(i), &cosine, scale) * h).sum();
            close(mass, 0.5, 1e-6);
        }
    }

    #[test]
    fn the_first_time_can_be_trained_at() {
        let schedules = [
            NoiseSchedule::default(),
            NoiseSchedule::Cosine { start: 0.0, end: 1.0, tau: 2.0 },
            NoiseSchedule::RectifiedFlow {},
        ];
        for schedule in schedules {
            for u in [0.0, 1e-300, 1e-12] {
                let sigma = TrainingNoise::UniformTime {}.sigma(u, &schedule, 1.0);
                assert!(sigma >= TrainingNoise::SMALLEST_SIGMA, "{schedule:?} at {u}: {sigma}");
                let quarter = Preconditioning::edm(0.66, NoiseInput::QuarterLogSigma);
                assert!(quarter.at(sigma).c_noise.is_finite());
                assert!(LossWeight::Edm.factor(sigma, &Preconditioning::lesson_eps(true), 0.66).is_finite());
            }
        }
    }

    #[test]
    fn every_stratum_is_drawn_from_once() {
        let n = 7;
        for i in 0..n {
            for u in [0.0, 0.4, 0.999] {
                assert_eq!((stratified(u, i, n) * n as f64) as usize, i);
            }
        }
    }

    #[test]
    fn weights_of_one_preconditioning_are_those_of_the_papers() {
        let edm = Preconditioning::edm(0.66, NoiseInput::Sigma);
        let eps = Preconditioning::lesson_eps(true);
        let x0 = Preconditioning { prediction: Prediction::X0 {}, scale: 1.0, ..eps };
        for sigma in [0.01, 0.4, 3.0, 60.0] {
            // Karras's λ is unit weight on his own target; k-diffusion's soft-min-SNR is (σσ_data)²/(σ²+σ_data²)² there.
            close(LossWeight::Edm.factor(sigma, &edm, 0.66), 1.0, 1e-12);
            let soft = (sigma * 0.66f64).powi(2) / (sigma * sigma + 0.66f64.powi(2)).powi(2);
            close(LossWeight::SoftMinSnr.factor(sigma, &edm, 0.66), soft, 1e-12);
            // Hang 2023: on ε it is min(SNR, γ)/SNR, on x₀ min(SNR, γ).
            let snr = (0.5 * sigma).powi(-2);
            close(LossWeight::MinSnr.factor(sigma, &eps, 0.66), snr.min(5.0) / snr, 1e-12);
            close(LossWeight::MinSnr.factor(sigma, &x0, 0.66), sigma.powi(-2).min(5.0), 1e-12);
            assert_eq!(LossWeight::Unit.factor(sigma, &eps, 0.66), 1.0);
        }
    }
}
