//! The noise levels of sampling.

use crate::{Domain, NoiseSchedule, OptionInfo, ScheduleError, options};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A way to space noise levels: its options are its fields. It is used through [`SigmaSteps`].
pub trait Spacing {
    /// The σ, from the largest down, in pixels of \[−1,1\]; a 0 is put behind the last where there is none. `schedule` and `scale` (b) are
    /// those of the model, for spacings that go along it.
    ///
    /// # Errors
    /// When an option is impossible: one line that names it.
    fn sigmas(&self, schedule: &NoiseSchedule, scale: f64) -> Result<Vec<f64>, ScheduleError>;
}

/// What is known of a way to space noise levels without making one.
#[derive(Debug, Clone, Copy)]
pub struct SpacingInfo {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [OptionInfo],
    /// With all options at their defaults.
    pub default: fn() -> SigmaSteps,
}

macro_rules! registry {
    ($($name:literal => $kind:ident($steps:ident),)*) => {
        /// The noise levels of sampling, in pixels of \[−1,1\]: they go down strictly and end with a 0.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "spacing")]
        #[non_exhaustive]
        pub enum SigmaSteps {
            $(
                #[doc = concat!("[`", stringify!($steps), "`].")]
                #[serde(rename = $name)]
                $kind($steps),
            )*
        }

        impl SigmaSteps {
            /// The names of all spacings.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// All spacings.
            pub const ALL: &'static [SpacingInfo] = &[
                $(SpacingInfo {
                    name: $name,
                    options: $steps::OPTIONS,
                    default: || SigmaSteps::$kind($steps::default()),
                },)*
            ];

            /// The name of this spacing.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }

            fn spacing(&self) -> &dyn Spacing {
                match self {
                    $(Self::$kind(steps) => steps,)*
                }
            }
        }

        $(
            impl From<$steps> for SigmaSteps {
                fn from(steps: $steps) -> Self {
                    Self::$kind(steps)
                }
            }
        )*
    };
}

registry! {
    "karras" => Karras(KarrasSteps),
    "exponential" => Exponential(ExponentialSteps),
    "polyexponential" => Polyexponential(PolyexponentialSteps),
    "linear" => Linear(LinearSteps),
    "time" => Time(TimeSteps),
    "ddim" => Ddim(DdimSteps),
    "iddpm" => Iddpm(IddpmSteps),
    "uneven" => Uneven(UnevenSteps),
    "list" => List(ListedSteps),
}

impl SigmaSteps {
    /// More steps than this take hours, and change nothing any more.
    pub const MOST: usize = 10_000;
    /// Below this σ, noise is less than the rounding of pixels in f32.
    pub const SMALLEST_SIGMA: f64 = 1e-6;
    /// Beyond this σ, x is nothing but noise many times over, and its squares leave f32.
    pub const LARGEST_SIGMA: f64 = 1e6;

    /// What is known of the spacing `name`.
    pub fn info(name: &str) -> Option<&'static SpacingInfo> {
        Self::ALL.iter().find(|info| info.name == name)
    }

    /// The σ, from the largest to the last above 0, then 0. `schedule` and `scale` (b) are those of the model, for spacings
    /// that go along it.
    ///
    /// # Errors
    /// When an option is impossible, or the σ would not fall strictly from a number of at most [`SigmaSteps::LARGEST_SIGMA`]: one line
    /// that says where.
    pub fn sigmas(&self, schedule: &NoiseSchedule, scale: f64) -> Result<Vec<f64>, ScheduleError> {
        let mut sigmas = self.spacing().sigmas(schedule, scale)?;
        if sigmas.last() != Some(&0.0) {
            sigmas.push(0.0);
        }
        let falls = |pair: &[f64]| pair[0] > pair[1];
        if let Some(i) = sigmas.windows(2).position(|pair| !falls(pair)) {
            let (name, from, to) = (self.name(), sigmas[i], sigmas[i + 1]);
            return impossible(format!(
                "the noise levels of {name} do not fall from {from} to {to} at step {}: give other options than {}",
                i + 1,
                self.given()
            ));
        }
        if sigmas.len() < 2 || sigmas[0] > Self::LARGEST_SIGMA {
            return impossible(format!(
                "the noise levels of {} begin at {}: give options that make them begin above 0, at most at {}",
                self.name(),
                sigmas[0],
                Self::LARGEST_SIGMA
            ));
        }
        Ok(sigmas)
    }

    /// The options as `name=value`, for errors.
    fn given(&self) -> String {
        match self {
            Self::Karras(KarrasSteps { rho, steps, .. })
            | Self::Polyexponential(PolyexponentialSteps { rho, steps, .. }) => {
                format!("rho={rho} steps={steps}")
            }
            Self::List(ListedSteps { sigmas }) => format!("sigmas={sigmas:?}"),
            _ => "these, or fewer steps".to_string(),
        }
    }
}

fn impossible<T>(what: String) -> Result<T, ScheduleError> {
    Err(ScheduleError(what))
}

/// What ρ may be: at 1,000 the steps are exponential to a hundredth.
const RHO: Domain = Domain::Number(1e-3, 1e3);

/// [`options!`] of a spacing between σ_max and σ_min, which it takes both, as many steps as are asked for.
macro_rules! between {
    ( $(#[$doc:meta])* pub struct $name:ident { $($own:tt)* } ) => {
        options! {
            $(#[$doc])*
            pub struct $name {
                /// Steps, the last one down to σ = 0
                steps: usize = 20, Domain::Whole(1, SigmaSteps::MOST as u64);
                $($own)*
                /// The smallest σ above 0
                sigma_min: f64 = 0.01, Domain::Number(SigmaSteps::SMALLEST_SIGMA, SigmaSteps::LARGEST_SIGMA);
                /// The σ to begin with [default: the schedule's largest, at most 80]
                sigma_max: f64 = 80.0, Domain::Number(SigmaSteps::SMALLEST_SIGMA, SigmaSteps::LARGEST_SIGMA);
            }
        }

        impl $name {
            /// The number of steps, σ_min and σ_max.
            fn between(&self) -> (usize, f64, f64) {
                (self.steps, self.sigma_min, self.sigma_max)
            }
        }
    };
}

/// `f` of the share of the way from σ_max to σ_min, exact at both ends.
fn even(
    (steps, sigma_min, sigma_max): (usize, f64, f64),
    f: impl Fn(f64) -> f64,
) -> Result<Vec<f64>, ScheduleError> {
    check_between(steps, sigma_min, sigma_max)?;
    let last = (steps - 1).max(1) as f64;
    let sigma = |i| match i {
        0 => sigma_max,
        i if i + 1 == steps => sigma_min,
        i => f(i as f64 / last),
    };
    Ok((0..steps).map(sigma).collect())
}

fn check_between(steps: usize, sigma_min: f64, sigma_max: f64) -> Result<(), ScheduleError> {
    check_steps(steps, 1)?;
    if sigma_min >= SigmaSteps::SMALLEST_SIGMA && sigma_min < sigma_max && sigma_max.is_finite() {
        return Ok(());
    }
    impossible(format!(
        "sigma_min={sigma_min} sigma_max={sigma_max} is impossible: both must be finite and {} <= sigma_min < sigma_max",
        SigmaSteps::SMALLEST_SIGMA
    ))
}

fn check_steps(steps: usize, least: usize) -> Result<(), ScheduleError> {
    if (least..=SigmaSteps::MOST).contains(&steps) {
        return Ok(());
    }
    impossible(format!("steps={steps} is impossible: give {least} to {}", SigmaSteps::MOST))
}

fn check_rho(rho: f64) -> Result<(), ScheduleError> {
    if RHO.holds(rho) {
        return Ok(());
    }
    impossible(format!("rho={rho} is impossible: give {RHO}"))
}

between! {
    /// Even in σ^(1/ρ) (Karras 2022, eq. 5).
    pub struct KarrasSteps {
        /// Curvature of the σ steps of karras [default: 7] and polyexponential [default: 1]
        rho: f64 = 7.0, RHO;
    }
}

impl Spacing for KarrasSteps {
    fn sigmas(&self, _: &NoiseSchedule, _: f64) -> Result<Vec<f64>, ScheduleError> {
        check_rho(self.rho)?;
        let root = |sigma: f64| sigma.powf(self.rho.recip());
        let (from, to) = (root(self.sigma_max), root(self.sigma_min));
        even(self.between(), |w| ((1.0 - w) * from + w * to).powf(self.rho))
    }
}

between! {
    /// Even in ln σ: VE's steps (Karras 2022, table 1).
    pub struct ExponentialSteps {}
}

impl Spacing for ExponentialSteps {
    fn sigmas(&self, _: &NoiseSchedule, _: f64) -> Result<Vec<f64>, ScheduleError> {
        even(self.between(), |w| ((1.0 - w) * self.sigma_max.ln() + w * self.sigma_min.ln()).exp())
    }
}

between! {
    /// Even in (ln σ)'s range to the power ρ (k-diffusion's `get_sigmas_polyexponential`); at ρ 1 they are exponential.
    pub struct PolyexponentialSteps {
        /// Curvature of the σ steps of karras [default: 7] and polyexponential [default: 1]
        rho: f64 = 1.0, RHO;
    }
}

impl Spacing for PolyexponentialSteps {
    fn sigmas(&self, _: &NoiseSchedule, _: f64) -> Result<Vec<f64>, ScheduleError> {
        check_rho(self.rho)?;
        even(self.between(), |w| {
            let ramp = (1.0 - w).powf(self.rho);
            (ramp * self.sigma_max.ln() + (1.0 - ramp) * self.sigma_min.ln()).exp()
        })
    }
}

between! {
    /// Even in σ.
    pub struct LinearSteps {}
}

impl Spacing for LinearSteps {
    fn sigmas(&self, _: &NoiseSchedule, _: f64) -> Result<Vec<f64>, ScheduleError> {
        even(self.between(), |w| (1.0 - w) * self.sigma_max + w * self.sigma_min)
    }
}

between! {
    /// t even along the schedule of the model, from the time of σ_max to that of σ_min: VP's steps (Karras 2022, table 1).
    pub struct TimeSteps {}
}

impl Spacing for TimeSteps {
    fn sigmas(&self, schedule: &NoiseSchedule, scale: f64) -> Result<Vec<f64>, ScheduleError> {
        let (from, to) = (schedule.time(self.sigma_max * scale), schedule.time(self.sigma_min * scale));
        even(self.between(), |w| schedule.sigma((1.0 - w) * from + w * to) / scale)
    }
}

options! {
    /// DDIM's as the lesson has them: t = 1 − 1/n, 1 − 2/n, …, 1/n along the schedule of the model, then σ = 0: n − 1 steps.
    pub struct DdimSteps {
        /// Steps, the last one down to σ = 0
        steps: usize = 20, Domain::Whole(2, SigmaSteps::MOST as u64);
    }
}

impl Spacing for DdimSteps {
    fn sigmas(&self, schedule: &NoiseSchedule, scale: f64) -> Result<Vec<f64>, ScheduleError> {
        check_steps(self.steps, 2)?;
        let n = self.steps as f64;
        let (_, last) = schedule.times();
        // t = 1 of schedules whose times are in [0, 1] is beyond what is trained.
        let end = if last == crate::LAST_TIME { 1.0 } else { last };
        Ok((1..self.steps).rev().map(|i| schedule.sigma(i as f64 / n * end) / scale).collect())
    }
}

between! {
    /// iDDPM's (Karras 2022, table 1, with M = 1000): places spread evenly over those u_j, j ≥ j₀, that lie between σ_min and σ_max
    /// (so EDM's `generate.py`), where u_M = 0, u_{j−1} = √((u_j² + 1)/max(ᾱ_{j−1}/ᾱ_j, C₁) − 1), ᾱ_j = sin²(π/2·j/(M(C₂+1))).
    pub struct IddpmSteps {
        /// C₁ of iddpm's steps
        c1: f64 = 0.001, Domain::Number(1e-9, 1.0);
        /// C₂ of iddpm's steps
        c2: f64 = 0.008, Domain::Number(1e-6, 10.0);
        /// j₀ of iddpm's steps
        j0: usize = 8, Domain::Whole(0, 998);
    }
}

impl Spacing for IddpmSteps {
    fn sigmas(&self, _: &NoiseSchedule, _: f64) -> Result<Vec<f64>, ScheduleError> {
        let Self { c1, c2, j0, .. } = *self;
        let (steps, sigma_min, sigma_max) = self.between();
        check_between(steps, sigma_min, sigma_max)?;
        if !(c1 > 0.0 && c1 <= 1.0 && c2 > 0.0 && c2.is_finite() && j0 < 999) {
            return impossible(format!(
                "c1={c1} c2={c2} j0={j0}: it needs c1 above 0 and at most 1, c2 above 0, and j0 below 999"
            ));
        }
        let among: Vec<f64> =
            iddpm_levels(c1, c2).skip(j0).filter(|u| (sigma_min..=sigma_max).contains(u)).collect();
        if among.len() < steps {
            return impossible(format!(
                "iddpm has {} noise levels between sigma_min={sigma_min} and sigma_max={sigma_max}, fewer than steps={steps}",
                among.len()
            ));
        }
        let apart = (among.len() - 1) as f64 / (steps - 1).max(1) as f64;
        Ok((0..steps).map(|i| among[(apart * i as f64 + 0.5).floor() as usize]).collect())
    }
}

/// u_0, u_1 … u_{M−1}.
fn iddpm_levels(c1: f64, c2: f64) -> impl Iterator<Item = f64> {
    const M: usize = 1000;
    let alpha_bar = |j: usize| (PI / 2.0 * j as f64 / (M as f64 * (c2 + 1.0))).sin().powi(2);
    let mut u = vec![0.0; M + 1];
    for j in (1..=M).rev() {
        let ratio: f64 = alpha_bar(j - 1) / alpha_bar(j);
        u[j - 1] = ((f64::powi(u[j], 2) + 1.0) / ratio.max(c1) - 1.0).sqrt();
    }
    u.into_iter().take(M)
}

options! {
    /// The lesson's earlier idea: of the times 0 … 999 of linear β those with (t + 101) mod ⌊(t + 101)/100⌋ = 0, sparse at the noise end:
    /// 296 of a thousand. Along the model's numbered linear β (DDPM's) where it has one, its times cut into a thousand, else along the
    /// lesson's, β from 1e-4 to 0.01 on pixels of \[−½,½\]: σ from 25.1 to 0.02.
    pub struct UnevenSteps {}
}

impl Spacing for UnevenSteps {
    fn sigmas(&self, schedule: &NoiseSchedule, scale: f64) -> Result<Vec<f64>, ScheduleError> {
        const LESSONS: NoiseSchedule =
            NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.01, steps: 1000 };
        let (schedule, scale) = match schedule {
            NoiseSchedule::LinearBeta { .. } => (schedule, scale),
            _ => (&LESSONS, 0.5),
        };
        let kept = |t: &usize| (t + 101).is_multiple_of((t + 101) / 100);
        let last = schedule.times().1;
        Ok((0..1000).rev().filter(kept).map(|t| schedule.sigma(last * t as f64 / 999.0) / scale).collect())
    }
}

options! {
    /// These, which go down.
    pub struct ListedSteps {
        /// The noise levels of spacing=list
        sigmas: Vec<f64> = vec![], Domain::List(SigmaSteps::SMALLEST_SIGMA, SigmaSteps::LARGEST_SIGMA);
    }
}

impl Spacing for ListedSteps {
    fn sigmas(&self, _: &NoiseSchedule, _: f64) -> Result<Vec<f64>, ScheduleError> {
        if self.sigmas.is_empty() {
            return impossible("spacing=list needs its noise levels, as in sigmas=80,10,1".to_string());
        }
        Ok(self.sigmas.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// Along the lesson's schedule and scale.
    fn sigmas(steps: impl Into<SigmaSteps>) -> Result<Vec<f64>, ScheduleError> {
        steps.into().sigmas(&NoiseSchedule::default(), 0.5)
    }

    fn karras(rho: f64, steps: usize) -> Result<Vec<f64>, ScheduleError> {
        sigmas(KarrasSteps { rho, steps, ..KarrasSteps::default() })
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
        let all = |steps: SigmaSteps| {
            let mut sigmas = sigmas(steps).unwrap();
            assert_eq!(sigmas.pop(), Some(0.0));
            assert_eq!((sigmas[0], sigmas[8]), (40.0, 0.1));
            sigmas
        };
        let (steps, sigma_min, sigma_max) = (9, 0.1, 40.0);
        let polyexponential = |rho| PolyexponentialSteps { steps, rho, sigma_min, sigma_max }.into();
        even(all(LinearSteps { steps, sigma_min, sigma_max }.into()));
        even(all(KarrasSteps { steps, rho: 1.0, sigma_min, sigma_max }.into()));
        even(all(ExponentialSteps { steps, sigma_min, sigma_max }.into()).iter().map(|s| s.ln()).collect());
        even(all(polyexponential(1.0)).iter().map(|s| s.ln()).collect());
        let cosine = NoiseSchedule::default();
        even(
            all(TimeSteps { steps, sigma_min, sigma_max }.into())
                .iter()
                .map(|s| cosine.time(s * 0.5))
                .collect(),
        );
        // k-diffusion's polyexponential with ρ 2, its middle by hand.
        close(all(polyexponential(2.0))[4], (0.25 * (40f64.ln() - 0.1f64.ln()) + 0.1f64.ln()).exp());
    }

    #[test]
    fn ddims_steps_are_the_lessons() {
        let sigmas = sigmas(DdimSteps { steps: 4 }).unwrap();
        let cosine = NoiseSchedule::default();
        assert_eq!(sigmas.len(), 4);
        for (sigma, t) in sigmas.iter().zip([0.75, 0.5, 0.25, 0.0]) {
            close(*sigma, cosine.sigma(t) / 0.5);
        }
    }

    #[test]
    fn vp_steps_are_those_of_table_1() {
        let vp = NoiseSchedule::Vp { beta_d: 19.9, beta_min: 0.1 };
        let (sigma_min, sigma_max) = (vp.sigma(1e-3), vp.sigma(1.0));
        let time = SigmaSteps::from(TimeSteps { steps: 5, sigma_min, sigma_max });
        let sigmas = time.sigmas(&vp, 1.0).unwrap();
        for (i, sigma) in sigmas[..5].iter().enumerate() {
            let t: f64 = 1.0 + i as f64 / 4.0 * (1e-3 - 1.0);
            let expected = (0.5 * 19.9 * t * t + 0.1 * t).exp_m1().sqrt();
            assert!((sigma / expected - 1.0).abs() < 1e-9, "{sigma} is not {expected}");
        }
    }

    #[test]
    fn iddpm_steps_are_those_of_edms_generate() {
        // `ablation_sampler` of EDM's generate.py, discretization='iddpm', in f64 with numpy: eight steps in two ranges.
        let wide = [
            80.20370184547417,
            4.199538217688142,
            2.0517293865198205,
            1.249800176143861,
            0.8024256536279509,
            0.4890798785993163,
            0.2394061716267726,
            0.006425412771141183,
        ];
        let narrow = [
            9.992710636600677,
            3.2061327985115904,
            1.8091802041665839,
            1.1692154673712256,
            0.777117767567605,
            0.4929494983531972,
            0.2609614991147997,
            0.051542569055448836,
        ];
        for (sigma_min, sigma_max, expected) in [(0.002, 81.0, wide), (0.05, 10.0, narrow)] {
            let found =
                sigmas(IddpmSteps { steps: 8, sigma_min, sigma_max, ..IddpmSteps::default() }).unwrap();
            assert_eq!(found.len(), 9);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
            }
        }
        let more = IddpmSteps { steps: 2000, ..IddpmSteps::default() };
        assert!(sigmas(more).unwrap_err().to_string().contains("fewer than steps=2000"));
    }

    #[test]
    fn the_lessons_uneven_steps_are_296() {
        let schedule = NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.01, steps: 1000 };
        let sigmas = SigmaSteps::from(UnevenSteps {}).sigmas(&schedule, 0.5).unwrap();
        assert_eq!(sigmas.len(), 297);
        // t = 0 is among them, since 101 mod 1 = 0; so is t = 999, 1100 mod 11 = 0.
        close(sigmas[295], schedule.sigma(0.0) / 0.5);
        close(sigmas[0], schedule.sigma(999.0) / 0.5);
        // Whatever another model's schedule is, they are the lesson's.
        for other in [NoiseSchedule::Edm {}, NoiseSchedule::default()] {
            assert_eq!(SigmaSteps::from(UnevenSteps {}).sigmas(&other, 1.0).unwrap(), sigmas);
        }
        // By Python: √(1/∏(1 − β) − 1) over β evenly from 1e-4 to 0.01.
        close(sigmas[0], 12.557_312_013_317_713 / 0.5);
        // Along a model's own linear β, at its own scale.
        let own = NoiseSchedule::LinearBeta { beta_min: 1e-4, beta_max: 0.02, steps: 1000 };
        close(SigmaSteps::from(UnevenSteps {}).sigmas(&own, 1.0).unwrap()[0], own.sigma(999.0));
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
            refused(sigmas(ExponentialSteps { steps: 5, sigma_min: min, sigma_max: max }), "sigma_min");
        }
        let list = |listed: &[f64]| sigmas(ListedSteps { sigmas: listed.to_vec() });
        refused(list(&[3.0, 3.0]), "from 3 to 3 at step 1");
        refused(list(&[3.0, -1.0]), "from -1 to 0 at step 2");
        refused(list(&[]), "sigmas=");
        refused(list(&[0.0]), "begin at 0");
        refused(list(&[1e7, 1.0]), "begin at 10000000");
        refused(list(&[f64::NAN]), "NaN");
        refused(sigmas(DdimSteps { steps: 1 }), "steps=1");
        assert_eq!(list(&[3.0, 2.0]).unwrap(), [3.0, 2.0, 0.0]);
        // A schedule whose σ leave f32.
        let vp = NoiseSchedule::Vp { beta_d: 200.0, beta_min: 0.1 };
        refused(SigmaSteps::from(DdimSteps { steps: 10 }).sigmas(&vp, 1.0), "begin at");
    }
}
