//! The noise levels of sampling.

use crate::{NoiseSchedule, ScheduleError};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the noise levels of sampling are spaced between σ_max and σ_min. All go down strictly and end with a 0 behind the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "spacing", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Spacing {
    /// Even in σ^(1/ρ) (Karras 2022, eq. 5).
    Karras {
        /// ρ, above 0.
        #[serde(default = "seven")]
        rho: f64,
    },
    /// Even in ln σ: VE's steps (Karras 2022, table 1).
    Exponential {},
    /// Even in (ln σ)'s range to the power ρ (k-diffusion's `get_sigmas_polyexponential`).
    Polyexponential {
        /// ρ, above 0; at 1 it is exponential.
        #[serde(default = "one")]
        rho: f64,
    },
    /// Even in σ.
    Linear {},
    /// t even along the schedule of the model, from the time of σ_max to that of σ_min: VP's steps (Karras 2022, table 1).
    Time {},
    /// DDIM's as the lesson has them: t = 1 − 1/n, 1 − 2/n, … along the schedule of the model, down to t = 0, which is σ = 0: n − 1
    /// steps, whatever σ_max and σ_min are.
    Ddim {},
    /// iDDPM's (Karras 2022, table 1, with M = 1000): places among the u_j.
    Iddpm {
        /// C₁, in (0, 1).
        #[serde(default = "c1")]
        c1: f64,
        /// C₂, above 0.
        #[serde(default = "c2")]
        c2: f64,
        /// j₀, below 999: the u_j with j ≥ j₀ are used.
        #[serde(default = "j0")]
        j0: usize,
    },
    /// The lesson's earlier idea: of t = 0 … 999 those with (t + 101) mod ⌊(t + 101)/100⌋ = 0, sparse at the noise end, along the
    /// schedule of the model, its range cut into a thousand; 296 of them, whatever the number of steps.
    Uneven {},
    /// These, which go down; a 0 behind the last is added where there is none.
    List {
        /// The noise levels, above 0.
        sigmas: Vec<f64>,
    },
}

impl Spacing {
    /// The names of all kinds.
    pub const NAMES: &[&str] =
        &["karras", "exponential", "polyexponential", "linear", "time", "ddim", "iddpm", "uneven", "list"];

    /// The name of this kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Karras { .. } => "karras",
            Self::Exponential {} => "exponential",
            Self::Polyexponential { .. } => "polyexponential",
            Self::Linear {} => "linear",
            Self::Time {} => "time",
            Self::Ddim {} => "ddim",
            Self::Iddpm { .. } => "iddpm",
            Self::Uneven {} => "uneven",
            Self::List { .. } => "list",
        }
    }
}

/// The noise levels of sampling, in pixels of \[−1,1\]: a spacing, how many, and between what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigmaSteps {
    /// How many steps, the last one down to 0. At least 1.
    pub steps: usize,
    /// The smallest σ above 0.
    pub sigma_min: f64,
    /// The largest.
    pub sigma_max: f64,
    /// How they are spaced.
    #[serde(flatten)]
    pub spacing: Spacing,
}

impl SigmaSteps {
    /// More would not fit into memory beside the images.
    pub const MOST: usize = 1_000_000;

    /// The σ, from the largest to the last above 0, then 0. `schedule` and `scale` (b) are those of the model, for spacings
    /// that go along it.
    ///
    /// # Errors
    /// When they would not fall strictly: one line that names the value at fault.
    pub fn sigmas(&self, schedule: &NoiseSchedule, scale: f64) -> Result<Vec<f64>, ScheduleError> {
        self.check()?;
        let (n, min, max) = (self.steps, self.sigma_min, self.sigma_max);
        let last = (n - 1).max(1) as f64;
        // `f` of the share of the way from σ_max to σ_min, exact at both ends.
        let even = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            (0..n)
                .map(|i| match i {
                    0 => max,
                    i if i + 1 == n => min,
                    i => f(i as f64 / last),
                })
                .collect()
        };
        let mut sigmas = match self.spacing {
            Spacing::Karras { rho } => {
                let (from, to) = (max.powf(rho.recip()), min.powf(rho.recip()));
                even(&|w| ((1.0 - w) * from + w * to).powf(rho))
            }
            Spacing::Exponential {} => even(&|w| ((1.0 - w) * max.ln() + w * min.ln()).exp()),
            Spacing::Polyexponential { rho } => even(&|w| {
                let ramp = (1.0 - w).powf(rho);
                (ramp * max.ln() + (1.0 - ramp) * min.ln()).exp()
            }),
            Spacing::Linear {} => even(&|w| (1.0 - w) * max + w * min),
            Spacing::Time {} => {
                let (from, to) = (schedule.time(max * scale), schedule.time(min * scale));
                even(&|w| schedule.sigma((1.0 - w) * from + w * to) / scale)
            }
            Spacing::Ddim {} => {
                (1..n).rev().map(|i| schedule.sigma(i as f64 / n as f64 * end_of(schedule)) / scale).collect()
            }
            Spacing::Iddpm { c1, c2, j0 } => iddpm(n, c1, c2, j0, min, max),
            Spacing::Uneven {} => {
                let kept = |t: &usize| (t + 101).is_multiple_of((t + 101) / 100);
                let (first, last) = schedule.times();
                let time = |t: usize| first + (last - first) * t as f64 / 999.0;
                (0..1000).rev().filter(kept).map(|t| schedule.sigma(time(t)) / scale).collect()
            }
            Spacing::List { ref sigmas } => sigmas.clone(),
        };
        if sigmas.last() != Some(&0.0) {
            sigmas.push(0.0);
        }
        self.check_falling(&sigmas)?;
        Ok(sigmas)
    }

    fn check(&self) -> Result<(), ScheduleError> {
        let impossible = |what: String| Err(ScheduleError(what));
        let Self { steps, sigma_min, sigma_max, .. } = *self;
        if steps == 0 {
            return impossible("steps=0 leads nowhere: give at least 1".to_string());
        }
        if steps > Self::MOST {
            return impossible(format!("steps={steps} is impossible: give at most {}", Self::MOST));
        }
        if !(sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite()) {
            return impossible(format!(
                "sigma_min={sigma_min} sigma_max={sigma_max} is impossible: both must be finite and 0 < sigma_min < sigma_max"
            ));
        }
        match self.spacing {
            Spacing::Karras { rho } | Spacing::Polyexponential { rho } if !(rho.is_finite() && rho > 0.0) => {
                impossible(format!("rho={rho} is impossible: give a number above 0"))
            }
            Spacing::Iddpm { c1, c2, j0 }
                if !(c1 > 0.0 && c1 < 1.0 && c2 > 0.0 && c2.is_finite() && j0 < 999) =>
            {
                impossible(format!(
                    "c1={c1} c2={c2} j0={j0}: it needs c1 in (0, 1), c2 above 0, and j0 below 999"
                ))
            }
            Spacing::Ddim {} if steps < 2 => impossible(
                "steps=1 leads nowhere with DDIM's spacing, which begins at t = 1 - 1/steps: give at least 2"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    /// Refuses σ that do not go down from a finite number to 0.
    fn check_falling(&self, sigmas: &[f64]) -> Result<(), ScheduleError> {
        let falling = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
        if sigmas.len() >= 2 && falling && sigmas[0].is_finite() {
            return Ok(());
        }
        let at = sigmas
            .windows(2)
            .position(|pair| pair[0].partial_cmp(&pair[1]) != Some(std::cmp::Ordering::Greater));
        let where_ = at.map_or_else(String::new, |i| {
            format!(": from {} to {} at step {}", sigmas[i], sigmas[i + 1], i + 1)
        });
        let why = match self.spacing {
            Spacing::Karras { rho } | Spacing::Polyexponential { rho } => {
                format!(
                    "with rho={rho} and steps={} the noise levels do not fall{where_}: give another rho or fewer steps",
                    self.steps
                )
            }
            Spacing::List { .. } => format!("the listed noise levels do not fall{where_}"),
            Spacing::Iddpm { .. } => {
                format!("iddpm has no steps={} different noise levels there{where_}: give fewer", self.steps)
            }
            _ => format!("with steps={} the noise levels do not fall{where_}: give fewer", self.steps),
        };
        Err(ScheduleError(why))
    }
}

/// Where t = 1 of the lesson's DDIM lies: the end of the schedule's time, which for continuous times in \[0,1\] is 1 itself.
fn end_of(schedule: &NoiseSchedule) -> f64 {
    let (_, last) = schedule.times();
    if last == crate::LAST_TIME { 1.0 } else { last }
}

/// σ_i = u_⌊j₀ + (M−1−j₀)/(N−1)·i + ½⌋ with u_M = 0 and u_{j−1} = √((u_j² + 1)/max(ᾱ_{j−1}/ᾱ_j, C₁) − 1), ᾱ_j = sin²(π/2·j/(M(C₂+1)))
/// (Karras 2022, table 1); those above `max` or below `min` are left out.
fn iddpm(steps: usize, c1: f64, c2: f64, j0: usize, min: f64, max: f64) -> Vec<f64> {
    const M: usize = 1000;
    let alpha_bar = |j: usize| (PI / 2.0 * j as f64 / (M as f64 * (c2 + 1.0))).sin().powi(2);
    let mut u = vec![0.0; M + 1];
    for j in (1..=M).rev() {
        let ratio: f64 = alpha_bar(j - 1) / alpha_bar(j);
        u[j - 1] = ((f64::powi(u[j], 2) + 1.0) / ratio.max(c1) - 1.0).sqrt();
    }
    let last = (steps - 1).max(1) as f64;
    let place = |i: usize| (j0 as f64 + (M - 1 - j0) as f64 / last * i as f64 + 0.5).floor() as usize;
    (0..steps).map(|i| u[place(i)]).filter(|&sigma| (min..=max).contains(&sigma)).collect()
}

fn one() -> f64 {
    1.0
}
fn seven() -> f64 {
    7.0
}
fn c1() -> f64 {
    0.001
}
fn c2() -> f64 {
    0.008
}
fn j0() -> usize {
    8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    fn steps(
        spacing: Spacing,
        steps: usize,
        sigma_min: f64,
        sigma_max: f64,
    ) -> Result<Vec<f64>, ScheduleError> {
        SigmaSteps { steps, sigma_min, sigma_max, spacing }.sigmas(&NoiseSchedule::default(), 0.5)
    }

    fn karras(rho: f64, n: usize) -> Result<Vec<f64>, ScheduleError> {
        steps(Spacing::Karras { rho }, n, 0.01, 80.0)
    }

    #[test]
    fn karras_steps_run_from_max_to_min_then_zero() {
        let sigmas = karras(7.0, 20).unwrap();
        assert_eq!(sigmas.len(), 21);
        assert_eq!((sigmas[0], sigmas[19], sigmas[20]), (80.0, 0.01, 0.0));
        // Equation 5 for i = 1, by hand.
        let (a, b) = (80f64.powf(1.0 / 7.0), 0.01f64.powf(1.0 / 7.0));
        close(sigmas[1], (a + (b - a) / 19.0).powi(7));
        assert_eq!(karras(7.0, 1).unwrap(), [80.0, 0.0]);
    }

    #[test]
    fn both_ends_are_exact_at_every_rho() {
        for rho in [0.25, 0.5, 1.0, 7.0, 30.0] {
            let sigmas = karras(rho, 10).unwrap();
            assert_eq!((sigmas[0], sigmas[9]), (80.0, 0.01), "rho {rho}");
            assert!(sigmas.windows(2).all(|w| w[0] > w[1]), "rho {rho}");
        }
    }

    #[test]
    fn spacings_are_even_where_they_say() {
        let even = |values: Vec<f64>| {
            let step = values[1] - values[0];
            values.windows(2).for_each(|w| close(w[1] - w[0], step));
        };
        let all = |spacing| {
            let mut sigmas = steps(spacing, 9, 0.1, 40.0).unwrap();
            assert_eq!(sigmas.pop(), Some(0.0));
            assert_eq!((sigmas[0], sigmas[8]), (40.0, 0.1));
            sigmas
        };
        even(all(Spacing::Linear {}));
        even(all(Spacing::Karras { rho: 1.0 }));
        even(all(Spacing::Exponential {}).iter().map(|s| s.ln()).collect());
        even(all(Spacing::Polyexponential { rho: 1.0 }).iter().map(|s| s.ln()).collect());
        let cosine = NoiseSchedule::default();
        even(all(Spacing::Time {}).iter().map(|s| cosine.time(s * 0.5)).collect());
        // k-diffusion's polyexponential with ρ 2, its middle by hand.
        close(
            all(Spacing::Polyexponential { rho: 2.0 })[4],
            (0.25 * (40f64.ln() - 0.1f64.ln()) + 0.1f64.ln()).exp(),
        );
    }

    #[test]
    fn ddims_steps_are_the_lessons() {
        let sigmas = steps(Spacing::Ddim {}, 4, 0.01, 80.0).unwrap();
        let cosine = NoiseSchedule::default();
        assert_eq!(sigmas.len(), 4);
        for (sigma, t) in sigmas.iter().zip([0.75, 0.5, 0.25, 0.0]) {
            close(*sigma, cosine.sigma(t) / 0.5);
        }
    }

    #[test]
    fn vp_and_iddpm_are_those_of_table_1() {
        let vp = NoiseSchedule::Vp { beta_d: 19.9, beta_min: 0.1 };
        let max = vp.sigma(1.0);
        let time =
            SigmaSteps { steps: 5, sigma_min: vp.sigma(1e-3), sigma_max: max, spacing: Spacing::Time {} };
        let sigmas = time.sigmas(&vp, 1.0).unwrap();
        for (i, sigma) in sigmas[..5].iter().enumerate() {
            let t: f64 = 1.0 + i as f64 / 4.0 * (1e-3 - 1.0);
            let expected = (0.5 * 19.9 * t * t + 0.1 * t).exp_m1().sqrt();
            assert!((sigma / expected - 1.0).abs() < 1e-9, "{sigma} is not {expected}");
        }
        // The paper: u_0 … with j₀ = 8 begin near 80; all are used at M − j₀ steps.
        let spacing = || Spacing::Iddpm { c1: 0.001, c2: 0.008, j0: 8 };
        let sigmas = steps(spacing(), 18, 0.002, 100.0).unwrap();
        assert!((sigmas[0] - 80.0).abs() < 2.0, "{}", sigmas[0]);
        assert_eq!(sigmas.len(), 19);
        assert!((sigmas[17] - 0.0064).abs() < 1e-3, "{}", sigmas[17]);
        assert!(steps(spacing(), 2000, 0.002, 100.0).unwrap_err().to_string().contains("iddpm"));
    }

    #[test]
    fn the_lessons_uneven_steps_are_296() {
        let schedule = NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.01, steps: 1000 };
        let uneven = SigmaSteps { steps: 1, sigma_min: 0.01, sigma_max: 80.0, spacing: Spacing::Uneven {} };
        let sigmas = uneven.sigmas(&schedule, 0.5).unwrap();
        assert_eq!(sigmas.len(), 297);
        // t = 0 is among them, since 101 mod 1 = 0; so is t = 999, 1100 mod 11 = 0.
        close(sigmas[295], schedule.sigma(0.0) / 0.5);
        close(sigmas[0], schedule.sigma(999.0) / 0.5);
    }

    #[test]
    fn impossible_steps_are_refused_with_the_value_at_fault() {
        let refused = |steps: Result<Vec<f64>, ScheduleError>, what: &str| {
            let error = steps.unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        refused(karras(7.0, 0), "steps=0");
        refused(karras(7.0, 1_000_000_000_000), "steps=1000000000000");
        refused(karras(0.0, 5), "rho=0");
        refused(karras(-1.0, 5), "rho=-1");
        refused(karras(f64::NAN, 5), "rho=NaN");
        refused(karras(0.001, 5), "rho=0.001");
        for (min, max) in
            [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, f64::INFINITY), (f64::NAN, 1.0)]
        {
            refused(steps(Spacing::Exponential {}, 5, min, max), "sigma_min");
        }
        refused(steps(Spacing::List { sigmas: vec![3.0, 3.0] }, 2, 0.01, 80.0), "from 3 to 3 at step 1");
        refused(steps(Spacing::Ddim {}, 1, 0.01, 80.0), "steps=1");
        assert_eq!(steps(Spacing::List { sigmas: vec![3.0, 2.0] }, 2, 0.01, 80.0).unwrap(), [3.0, 2.0, 0.0]);
    }
}
