//! Noise schedules: how much noise there is at each time.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// σ(t) of a diffusion process x_t = s(t)·(x₀ + σ(t)·n), its inverse, and the scale s(t) (Karras 2022, eq. 4 and table 1).
///
/// σ is in the units of x₀ as the process sees it: of data in pixels of \[−b, b\] it is b times what it is in pixels of
/// \[−1, 1\]. b is a number beside the schedule ([`crate::Preconditioning`] has it). ᾱ = 1/(1 + σ²) is the share of the
/// image's variance where s = √ᾱ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schedule", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum NoiseSchedule {
    /// ᾱ falls as a power of a cosine between `start` and `end` (Chen 2023, algorithm 1, `cosine_schedule`). From 0 to 1
    /// with τ 1 it is ᾱ = cos²(πt/2), the lesson's: Nichol & Dhariwal 2021 without their offset.
    Cosine {
        /// Where on the cosine t = 0 is, 0 ≤ `start` < `end`.
        #[serde(default)]
        start: f64,
        /// Where t = 1 is, at most 1.
        #[serde(default = "one")]
        end: f64,
        /// The power is 2τ; above 0.
        #[serde(default = "one")]
        tau: f64,
    },
    /// ᾱ falls as a sigmoid between `start` and `end` (Chen 2023, algorithm 1, `sigmoid_schedule`).
    Sigmoid {
        /// Where on the sigmoid t = 0 is, below `end`.
        #[serde(default = "minus_three")]
        start: f64,
        /// Where t = 1 is.
        #[serde(default = "three")]
        end: f64,
        /// Its temperature, above 0.
        #[serde(default = "one")]
        tau: f64,
    },
    /// ᾱ = 1 − t (Chen 2023, algorithm 1, `simple_linear_schedule`).
    LinearAlphaBar {},
    /// β from `beta_min` to `beta_max` over `steps` numbered times t = 0 … `steps` − 1, ᾱ_t = ∏(1 − β_i) up to and with t
    /// (Ho 2020). Between them ln σ is linear in t.
    LinearBeta {
        /// β of time 0, above 0.
        #[serde(default = "beta_min")]
        beta_min: f64,
        /// β of the last time, below 1.
        #[serde(default = "beta_max")]
        beta_max: f64,
        /// How many times there are, at least 2.
        #[serde(default = "thousand")]
        steps: usize,
    },
    /// The variance-preserving process in continuous time: σ² = exp(½β_d·t² + β_min·t) − 1 (Song 2021; Karras 2022, table 1).
    Vp {
        /// β_d, above 0.
        #[serde(default = "vp_beta_d")]
        beta_d: f64,
        /// β_min, above 0.
        #[serde(default = "vp_beta_min")]
        beta_min: f64,
    },
    /// The variance-exploding process: σ = √t, s = 1 (Song 2021; Karras 2022, table 1).
    Ve {},
    /// σ = t, s = 1 (Karras 2022, table 1).
    Edm {},
    /// Rectified flow, x_t = (1 − t)·x₀ + t·n: σ = t/(1 − t), s = 1 − t (Liu 2023; Lipman 2023).
    RectifiedFlow {},
}

impl Default for NoiseSchedule {
    /// The lesson's: cosine.
    fn default() -> Self {
        Self::Cosine { start: 0.0, end: 1.0, tau: 1.0 }
    }
}

/// The last time of schedules that end in pure noise: at t = 1 the image could not be had back.
pub const LAST_TIME: f64 = 0.999;

impl NoiseSchedule {
    /// The names of all kinds.
    pub const NAMES: [&str; 8] =
        ["cosine", "sigmoid", "linear_alpha_bar", "linear_beta", "vp", "ve", "edm", "rectified_flow"];

    /// σ at time `t` of [`NoiseSchedule::times`].
    pub fn sigma(&self, t: f64) -> f64 {
        match *self {
            Self::Cosine { start, end, tau } if is_plain(start, end, tau) => (PI * t / 2.0).tan(),
            Self::Cosine { .. } | Self::Sigmoid { .. } | Self::LinearAlphaBar {} => {
                let (signal, noise) = self.shares(t);
                (noise / signal).sqrt()
            }
            Self::LinearBeta { .. } => {
                let before = t.floor().clamp(0.0, self.times().1 - 1.0);
                let mut around = self.ln_sigmas().skip(before as usize);
                let (low, high) = (around.next().unwrap_or(f64::NAN), around.next().unwrap_or(f64::NAN));
                (low + (t - before) * (high - low)).exp()
            }
            Self::Vp { beta_d, beta_min } => (beta_d * t * t / 2.0 + beta_min * t).exp_m1().sqrt(),
            Self::Ve {} => t.sqrt(),
            Self::Edm {} => t,
            Self::RectifiedFlow {} => t / (1.0 - t),
        }
    }

    /// The time at which the noise is `sigma` ≥ 0: the inverse of [`NoiseSchedule::sigma`]. Beyond the schedule's largest σ
    /// (or below the first of [`NoiseSchedule::LinearBeta`]) it is the last (the first) time.
    pub fn time(&self, sigma: f64) -> f64 {
        let (first, last) = self.times();
        let time = match *self {
            Self::Cosine { start, end, tau } if is_plain(start, end, tau) => 2.0 / PI * sigma.atan(),
            Self::Cosine { start, end, tau } => {
                let of = |t: f64| (PI * t / 2.0).cos().powf(2.0 * tau);
                let level = interpolate(of(end), of(start), sigma);
                ((level.powf(0.5 / tau)).clamp(0.0, 1.0).acos() * 2.0 / PI - start) / (end - start)
            }
            Self::Sigmoid { start, end, tau } => {
                let level = interpolate(sigmoid(end / tau), sigmoid(start / tau), sigma);
                (tau * logit(level) - start) / (end - start)
            }
            Self::LinearAlphaBar {} => sigma * sigma / (1.0 + sigma * sigma),
            Self::LinearBeta { .. } => self.linear_beta_time(sigma.ln()),
            Self::Vp { beta_d, beta_min } => {
                // ½β_d·t² + β_min·t = ln(1 + σ²), without cancellation at small σ.
                let c = sigma.powi(2).ln_1p();
                2.0 * c / (beta_min + (beta_min * beta_min + 2.0 * beta_d * c).sqrt())
            }
            Self::Ve {} => sigma * sigma,
            Self::Edm {} => sigma,
            Self::RectifiedFlow {} => sigma / (1.0 + sigma),
        };
        time.clamp(first, last)
    }

    /// The scale s at noise level `sigma`: of variance-preserving processes √ᾱ = 1/√(1 + σ²), of rectified flow 1/(1 + σ), of
    /// variance-exploding ones 1.
    pub fn scale(&self, sigma: f64) -> f64 {
        match self {
            Self::Ve {} | Self::Edm {} => 1.0,
            Self::RectifiedFlow {} => (1.0 + sigma).recip(),
            _ => 1f64.hypot(sigma).recip(),
        }
    }

    /// ᾱ = 1/(1 + σ²) at time `t`.
    pub fn alpha_bar(&self, t: f64) -> f64 {
        alpha_bar_of_sigma(self.sigma(t))
    }

    /// The first and the last time that training draws from.
    pub fn times(&self) -> (f64, f64) {
        match *self {
            Self::Cosine { .. } | Self::Sigmoid { .. } | Self::LinearAlphaBar {} | Self::RectifiedFlow {} => {
                (0.0, LAST_TIME)
            }
            Self::LinearBeta { steps, .. } => (0.0, (steps - 1) as f64),
            Self::Vp { .. } => (1e-5, 1.0),
            Self::Ve {} => (0.02f64.powi(2), 100f64.powi(2)),
            Self::Edm {} => (0.002, 80.0),
        }
    }

    /// The largest σ that training sees.
    pub fn largest_sigma(&self) -> f64 {
        self.sigma(self.times().1)
    }

    /// How many numbered times there are, where time is not continuous.
    pub fn steps(&self) -> Option<usize> {
        match *self {
            Self::LinearBeta { steps, .. } => Some(steps),
            _ => None,
        }
    }

    /// Refuses values that are impossible.
    ///
    /// # Errors
    /// One line that names the value and what it may be.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let error = |what: String| Err(ScheduleError(what));
        match *self {
            Self::Cosine { start, end, tau } if !(0.0 <= start && start < end && end <= 1.0 && tau > 0.0) => {
                error(format!(
                    "cosine start={start} end={end} tau={tau}: it needs 0 <= start < end <= 1 and tau above 0"
                ))
            }
            Self::Sigmoid { start, end, tau }
                if !(start < end && tau > 0.0 && [start, end, tau].iter().all(|v| v.is_finite())) =>
            {
                error(format!(
                    "sigmoid start={start} end={end} tau={tau}: it needs start < end and tau above 0"
                ))
            }
            Self::LinearBeta { beta_min, beta_max, steps }
                if !(0.0 < beta_min
                    && beta_min <= beta_max
                    && beta_max < 1.0
                    && (2..=10_000).contains(&steps)) =>
            {
                error(format!(
                    "linear_beta beta_min={beta_min} beta_max={beta_max} steps={steps}: it needs 0 < beta_min <= \
                     beta_max < 1 and 2 to 10000 steps"
                ))
            }
            Self::Vp { beta_d, beta_min }
                if !(beta_d > 0.0 && beta_min > 0.0 && beta_d.is_finite() && beta_min.is_finite()) =>
            {
                error(format!("vp beta_d={beta_d} beta_min={beta_min}: both must be above 0"))
            }
            _ => Ok(()),
        }
    }

    /// ᾱ and 1 − ᾱ of Chen's schedules at `t`, each without cancellation where there is a way.
    fn shares(&self, t: f64) -> (f64, f64) {
        let between = |of: &dyn Fn(f64) -> f64, start: f64, end: f64| {
            let (from, to, now) = (of(start), of(end), of(t * (end - start) + start));
            ((now - to) / (from - to), (from - now) / (from - to))
        };
        match *self {
            Self::Cosine { start, end, tau } => {
                between(&|t| (PI * t / 2.0).cos().max(0.0).powf(2.0 * tau), start, end)
            }
            Self::Sigmoid { start, end, tau } => between(&|t| sigmoid(t / tau), -start, -end),
            _ => (1.0 - t, t),
        }
    }

    /// ln σ of the numbered times of [`NoiseSchedule::LinearBeta`], from time 0.
    fn ln_sigmas(&self) -> impl Iterator<Item = f64> {
        let (from, to, steps) = match *self {
            Self::LinearBeta { beta_min, beta_max, steps } => (beta_min, beta_max, steps),
            _ => (0.0, 0.0, 0),
        };
        let beta = move |i: usize| from + (to - from) * i as f64 / (steps - 1) as f64;
        (0..steps).scan(0.0, move |minus_ln_alpha_bar, i| {
            *minus_ln_alpha_bar -= (-beta(i)).ln_1p();
            // σ² = 1/ᾱ − 1 = (1 − ᾱ)/ᾱ, whose logarithm is finite where 1/ᾱ is not.
            Some((*minus_ln_alpha_bar + (-(-*minus_ln_alpha_bar).exp_m1()).ln()) / 2.0)
        })
    }

    /// The time of [`NoiseSchedule::LinearBeta`] at which ln σ is this; outside of its times the line goes on.
    fn linear_beta_time(&self, ln_sigma: f64) -> f64 {
        let mut ln_sigmas = self.ln_sigmas().enumerate().peekable();
        while let (Some((i, from)), Some(&(_, to))) = (ln_sigmas.next(), ln_sigmas.peek()) {
            if to >= ln_sigma || i + 2 == self.steps().unwrap_or(0) {
                return i as f64 + (ln_sigma - from) / (to - from);
            }
        }
        f64::NAN
    }
}

fn is_plain(start: f64, end: f64, tau: f64) -> bool {
    (start, end, tau) == (0.0, 1.0, 1.0)
}

/// The level between `end` (all noise) and `start` (all image) at which ᾱ = 1/(1 + σ²).
fn interpolate(end: f64, start: f64, sigma: f64) -> f64 {
    end + (start - end) * alpha_bar_of_sigma(sigma)
}

/// ln(p/(1−p)): of ᾱ the log signal-to-noise ratio; −∞ at 0, ∞ at 1.
pub fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

/// 1/(1 + e^−x), the inverse of [`logit`].
pub fn sigmoid(x: f64) -> f64 {
    (1.0 + (-x).exp()).recip()
}

/// σ = √((1−ᾱ)/ᾱ): the noise beside an image of scale one. ∞ at ᾱ = 0.
pub fn sigma_of_alpha_bar(alpha_bar: f64) -> f64 {
    ((1.0 - alpha_bar) / alpha_bar).sqrt()
}

/// ᾱ = 1/(1 + σ²), the inverse of [`sigma_of_alpha_bar`].
pub fn alpha_bar_of_sigma(sigma: f64) -> f64 {
    (1.0 + sigma * sigma).recip()
}

/// What makes a choice impossible: one line that names the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub String);

fn one() -> f64 {
    1.0
}
fn three() -> f64 {
    3.0
}
fn minus_three() -> f64 {
    -3.0
}
fn beta_min() -> f64 {
    1e-4
}
fn beta_max() -> f64 {
    0.02
}
fn thousand() -> usize {
    1000
}
fn vp_beta_d() -> f64 {
    19.9
}
fn vp_beta_min() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} is not {b}");
    }

    fn all() -> Vec<NoiseSchedule> {
        vec![
            NoiseSchedule::default(),
            NoiseSchedule::Cosine { start: 0.2, end: 1.0, tau: 1.0 },
            NoiseSchedule::Cosine { start: 0.0, end: 1.0, tau: 2.0 },
            NoiseSchedule::Sigmoid { start: -3.0, end: 3.0, tau: 1.0 },
            NoiseSchedule::Sigmoid { start: 0.0, end: 3.0, tau: 0.7 },
            NoiseSchedule::LinearAlphaBar {},
            NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.01, steps: 1000 },
            NoiseSchedule::Vp { beta_d: 19.9, beta_min: 0.1 },
            NoiseSchedule::Ve {},
            NoiseSchedule::Edm {},
            NoiseSchedule::RectifiedFlow {},
        ]
    }

    #[test]
    fn times_and_sigmas_are_inverse_and_rise_together() {
        for schedule in all() {
            schedule.check().unwrap();
            let (first, last) = schedule.times();
            let times: Vec<f64> = (0..=40).map(|i| first + (last - first) * f64::from(i) / 40.0).collect();
            for pair in times.windows(2) {
                assert!(schedule.sigma(pair[0]) < schedule.sigma(pair[1]), "{schedule:?} at {pair:?}");
            }
            for t in times {
                let sigma = schedule.sigma(t);
                // Chen's generalised cosine and sigmoid lose what 1 − ᾱ loses near t = 0, so the square root of it.
                assert!((schedule.time(sigma) - t).abs() < 1e-7 * last, "{schedule:?} at {t}: σ {sigma}");
            }
            for sigma in [0.02, 0.3, 1.0, 5.0] {
                close(schedule.sigma(schedule.time(sigma)), sigma, 1e-9);
            }
        }
    }

    #[test]
    fn the_cosine_is_the_lessons() {
        let schedule = NoiseSchedule::default();
        for t in [0.0, 0.1, 0.5, 2.0 / 3.0, LAST_TIME] {
            close(schedule.alpha_bar(t), (PI * t / 2.0).cos().powi(2), 1e-14);
        }
        close(schedule.largest_sigma(), 636.6, 1e-3);
        // By Chen's formula it is the same.
        let chen = NoiseSchedule::Cosine { start: 0.0, end: 1.0, tau: 1.0 + 1e-15 };
        close(chen.sigma(0.3), schedule.sigma(0.3), 1e-12);
    }

    #[test]
    fn chens_schedules_are_those_of_the_paper() {
        // `cosine_schedule(0.3, start=0.2, end=1, tau=2)` and `sigmoid_schedule(0.3, start=-3, end=3, tau=0.9)`, with the
        // operations of algorithm 1 in their order.
        let v = |t: f64| (t * PI / 2.0).cos().powf(4.0);
        let gamma = (v(1.0) - v(0.3 * 0.8 + 0.2)) / (v(1.0) - v(0.2));
        close(NoiseSchedule::Cosine { start: 0.2, end: 1.0, tau: 2.0 }.alpha_bar(0.3), gamma, 1e-12);
        let v = |x: f64| 1.0 / (1.0 + (-x / 0.9).exp());
        let gamma = (v(3.0) - v(0.3 * 6.0 - 3.0)) / (v(3.0) - v(-3.0));
        close(NoiseSchedule::Sigmoid { start: -3.0, end: 3.0, tau: 0.9 }.alpha_bar(0.3), gamma, 1e-12);
        close(NoiseSchedule::LinearAlphaBar {}.alpha_bar(0.3), 0.7, 1e-14);
    }

    #[test]
    fn the_lessons_linear_beta_reaches_twelve() {
        let schedule = NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.01, steps: 1000 };
        let mut alpha_bar = 1.0;
        for t in 0..1000 {
            alpha_bar *= 1.0 - (1e-4 + (0.01 - 1e-4) * f64::from(t) / 999.0);
            close(schedule.alpha_bar(f64::from(t)), alpha_bar, 1e-11);
        }
        close(schedule.largest_sigma(), 12.6, 5e-3);
    }

    #[test]
    fn table_1_of_karras() {
        let vp = NoiseSchedule::Vp { beta_d: 19.9, beta_min: 0.1 };
        close(vp.sigma(0.5), (0.5f64 * 19.9 * 0.25 + 0.1 * 0.5).exp_m1().sqrt(), 1e-14);
        close(vp.largest_sigma(), 152.2, 1e-3);
        close(vp.scale(2.0), 1.0 / 5f64.sqrt(), 1e-14);
        close(NoiseSchedule::Ve {}.sigma(9.0), 3.0, 1e-15);
        close(NoiseSchedule::Edm {}.sigma(9.0), 9.0, 1e-15);
        close(NoiseSchedule::RectifiedFlow {}.sigma(0.75), 3.0, 1e-14);
        // x_t = (1 − t)·x₀ + t·n.
        close(NoiseSchedule::RectifiedFlow {}.scale(3.0), 0.25, 1e-14);
    }

    #[test]
    fn impossible_values_are_named() {
        for (schedule, what) in [
            (NoiseSchedule::Cosine { start: 1.0, end: 0.5, tau: 1.0 }, "start=1"),
            (NoiseSchedule::Cosine { start: 0.0, end: 1.0, tau: 0.0 }, "tau=0"),
            (NoiseSchedule::Sigmoid { start: 3.0, end: -3.0, tau: 1.0 }, "start=3"),
            (NoiseSchedule::LinearBeta { beta_min: 0.0, beta_max: 0.01, steps: 10 }, "beta_min=0"),
            (NoiseSchedule::LinearBeta { beta_min: 0.1, beta_max: 0.2, steps: 1 }, "steps=1"),
            (NoiseSchedule::Vp { beta_d: f64::NAN, beta_min: 0.1 }, "beta_d=NaN"),
        ] {
            assert!(schedule.check().unwrap_err().to_string().contains(what), "{schedule:?}");
        }
    }
}
