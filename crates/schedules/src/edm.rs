//! The design choices of Karras 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM).

use std::f64::consts::PI;

/// What the network's input, output and the skip around it are multiplied by: D(x; σ) = c_skip·x + c_out·F(c_in·x)
/// (Karras 2022, eq. 7 and table 1). With them the network's input and its training target have unit variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalings {
    /// σ_data²/(σ² + σ_data²), from 1 at σ = 0 down to 0.
    pub c_skip: f64,
    /// σ·σ_data/√(σ² + σ_data²), from 0 up to σ_data.
    pub c_out: f64,
    /// 1/√(σ² + σ_data²).
    pub c_in: f64,
}

impl Scalings {
    /// For noise level `sigma` ≥ 0 and the data's standard deviation `sigma_data` > 0.
    pub fn new(sigma: f64, sigma_data: f64) -> Self {
        let total = sigma.hypot(sigma_data);
        Self { c_skip: (sigma_data / total).powi(2), c_out: sigma * sigma_data / total, c_in: total.recip() }
    }
}

/// The distribution of σ in training: ln σ is normal with mean `p_mean` and standard deviation `p_std` (Karras 2022,
/// table 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    /// Mean of ln σ.
    pub p_mean: f64,
    /// Standard deviation of ln σ, above 0.
    pub p_std: f64,
}

impl Default for LogNormal {
    /// The paper's: −1.2 and 1.2.
    fn default() -> Self {
        Self { p_mean: -1.2, p_std: 1.2 }
    }
}

impl LogNormal {
    /// σ for a standard normal number `z`.
    pub fn sigma(&self, z: f64) -> f64 {
        (self.p_mean + self.p_std * z).exp()
    }

    /// The probability density of ln σ at `sigma` > 0, per unit of ln σ.
    pub fn log_density(&self, sigma: f64) -> f64 {
        let z = (sigma.ln() - self.p_mean) / self.p_std;
        (-z * z / 2.0).exp() / (self.p_std * (2.0 * PI).sqrt())
    }

    /// The probability density of σ at `sigma` > 0.
    pub fn density(&self, sigma: f64) -> f64 {
        self.log_density(sigma) / sigma
    }
}

/// Why σ steps cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// No steps.
    #[error("0 steps lead nowhere: give at least 1")]
    NoSteps,
    /// A bad ρ.
    #[error("rho {0} is impossible: give a number above 0")]
    Rho(f64),
    /// A bad range.
    #[error(
        "sigma from {max} down to {min} is impossible: both must be finite and 0 < sigma_min < sigma_max"
    )]
    Range {
        /// σ_min.
        min: f64,
        /// σ_max.
        max: f64,
    },
}

/// The noise levels of sampling: `steps` values from `sigma_max` down to `sigma_min`, evenly spaced in σ^(1/ρ), then 0
/// (Karras 2022, eq. 5). One step goes straight from σ_max to 0.
///
/// # Errors
/// When there are no steps, ρ is not above 0, or not 0 < `sigma_min` < `sigma_max`.
pub fn karras_sigmas(
    steps: usize,
    sigma_min: f64,
    sigma_max: f64,
    rho: f64,
) -> Result<Vec<f64>, ScheduleError> {
    if steps == 0 {
        return Err(ScheduleError::NoSteps);
    }
    if !(rho.is_finite() && rho > 0.0) {
        return Err(ScheduleError::Rho(rho));
    }
    if !(sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite()) {
        return Err(ScheduleError::Range { min: sigma_min, max: sigma_max });
    }
    let (from, to) = (sigma_max.powf(rho.recip()), sigma_min.powf(rho.recip()));
    let last = (steps - 1).max(1) as f64;
    let sigma = |i: usize| (from + i as f64 / last * (to - from)).powf(rho);
    Ok((0..steps).map(sigma).chain([0.0]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn scalings_give_unit_variance() {
        for sigma in [0.0, 0.002, 0.3, 1.0, 80.0] {
            for sigma_data in [0.33, 0.66] {
                let Scalings { c_skip, c_out, c_in } = Scalings::new(sigma, sigma_data);
                let (noise, data) = (sigma * sigma, sigma_data * sigma_data);
                close(c_in * c_in * (noise + data), 1.0);
                // Variance of (y − c_skip·(y + σn)), y and n independent.
                let target = (1.0 - c_skip).powi(2) * data + c_skip * c_skip * noise;
                close(c_out * c_out, target);
            }
        }
    }

    #[test]
    fn without_noise_the_skip_is_all() {
        assert_eq!(Scalings::new(0.0, 0.5), Scalings { c_skip: 1.0, c_out: 0.0, c_in: 2.0 });
    }

    #[test]
    fn karras_steps_run_from_max_to_min_then_zero() {
        let sigmas = karras_sigmas(20, 0.01, 80.0, 7.0).unwrap();
        assert_eq!(sigmas.len(), 21);
        close(sigmas[0], 80.0);
        close(sigmas[19], 0.01);
        assert_eq!(sigmas[20], 0.0);
        assert!(sigmas.windows(2).all(|w| w[0] > w[1]));
        // Equation 5 for i = 1, by hand.
        let (a, b) = (80f64.powf(1.0 / 7.0), 0.01f64.powf(1.0 / 7.0));
        close(sigmas[1], (a + (b - a) / 19.0).powi(7));
        assert_eq!(karras_sigmas(1, 0.01, 80.0, 7.0).unwrap().len(), 2);
    }

    #[test]
    fn rho_one_is_linear() {
        let sigmas = karras_sigmas(5, 1.0, 9.0, 1.0).unwrap();
        for (sigma, expected) in sigmas.iter().zip([9.0, 7.0, 5.0, 3.0, 1.0, 0.0]) {
            close(*sigma, expected);
        }
    }

    #[test]
    fn impossible_steps_are_refused() {
        assert_eq!(karras_sigmas(0, 0.01, 80.0, 7.0), Err(ScheduleError::NoSteps));
        assert_eq!(karras_sigmas(5, 0.01, 80.0, 0.0), Err(ScheduleError::Rho(0.0)));
        for (min, max) in
            [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, f64::INFINITY), (f64::NAN, 1.0)]
        {
            assert!(
                matches!(karras_sigmas(5, min, max, 7.0), Err(ScheduleError::Range { .. })),
                "{min} {max}"
            );
        }
    }

    #[test]
    fn the_density_is_that_of_the_drawn_sigmas() {
        let training = LogNormal::default();
        close(training.sigma(0.0), (-1.2f64).exp());
        // The density integrates to the normal distribution's mass within one standard deviation.
        let (from, to) = (training.sigma(-1.0), training.sigma(1.0));
        let n = 20_000;
        let h = (to - from) / f64::from(n);
        let mass: f64 = (0..n).map(|i| training.density(from + (f64::from(i) + 0.5) * h) * h).sum();
        assert!((mass - 0.682_689_492).abs() < 1e-6, "{mass}");
    }
}
