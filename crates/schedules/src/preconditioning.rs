//! What a network's input, time and answer mean.

use crate::{NoiseSchedule, ScheduleError, SigmaSteps};
use serde::{Deserialize, Serialize};

/// What the network predicts, and with which scalings (Karras 2022, eq. 7 and table 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "prediction", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Prediction {
    /// Karras's: the network's input and target have unit variance at every σ.
    Edm {
        /// The data's standard deviation, in pixels of \[−1,1\], above 0.
        #[serde(default = "sigma_data")]
        sigma_data: f64,
        /// What the network is told of σ.
        #[serde(default)]
        noise_input: NoiseInput,
        /// μ, which is taken from the images first: D = μ + c_skip·(x−μ) + c_out·F(c_in·(x−μ)). 0 in the paper.
        #[serde(default)]
        mean: f64,
    },
    /// Song 2021's VE network as table 1 of Karras 2022 has it: D = x + σ·F(x; ln(σ/2)).
    Ve {},
    /// The noise n (Ho 2020), of x_t along the schedule.
    Eps {},
    /// v = (n − s·x₀)/√(1 + s²) (Salimans & Ho 2022).
    V {},
    /// The image x₀.
    X0 {},
    /// The velocity n − x₀ of rectified flow, whose x_t is (1 − t)·x₀ + t·n (Liu 2023; Lipman 2023).
    Flow {},
}

/// What a network with [`Prediction::Edm`] is told of the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseInput {
    /// σ itself, as the lesson's notebook has it.
    #[default]
    Sigma,
    /// c_noise = ¼·ln σ (Karras 2022, table 1).
    QuarterLogSigma,
}

impl NoiseInput {
    /// The names of all kinds.
    pub const NAMES: &'static [&'static str] = &["sigma", "quarter-log-sigma"];
}

/// What a network's input, time and answer mean: its denoiser is D(x; σ) = μ + c_skip·(x−μ) + c_out·F(c_in·(x−μ); c_noise)
/// for x = y + σ·n, images y in pixels of \[−1, 1\] (Karras 2022, eq. 7).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preconditioning {
    /// What the network predicts.
    pub prediction: Prediction,
    /// Along what; [`Prediction::Edm`] and [`Prediction::Ve`] need no schedule but for the steps of sampling.
    pub schedule: NoiseSchedule,
    /// b: the network sees images in pixels of \[−b, b\]. Above 0. [`Prediction::Edm`] and [`Prediction::Ve`] have 1.
    pub scale: f64,
    /// Whether the network is told the time; else it is told 0.
    pub told_time: bool,
    /// The data's standard deviation σ_d, in pixels of \[−1,1\], where the network's input is brought to variance one: then c_in is
    /// 1/√(σ² + σ_d²), as [`Prediction::Edm`] has it anyway, whatever schedule and scale (Chen 2023, section 2.3, with the variance that is
    /// expected in place of each image's own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sigma_data: Option<f64>,
}

/// The numbers of a [`Preconditioning`] at one σ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// What is left of the input in the answer.
    pub c_skip: f64,
    /// What the network's answer is multiplied by.
    pub c_out: f64,
    /// What the network's input is multiplied by.
    pub c_in: f64,
    /// What the network is told of σ.
    pub c_noise: f64,
    /// μ.
    pub mean: f64,
    /// The target is `target_image`·(y − μ) + `target_noise`·n: (y−μ − c_skip·(y−μ+σn))/c_out without its cancellation, and
    /// without 0/0 at σ = 0.
    pub target_image: f64,
    /// See `target_image`.
    pub target_noise: f64,
}

impl Preconditioning {
    /// `prediction` along `schedule`, on pixels of \[−1,1\], of a network that is told the time.
    pub fn along(prediction: Prediction, schedule: NoiseSchedule) -> Self {
        Self { prediction, schedule, scale: 1.0, told_time: true, input_sigma_data: None }
    }

    /// The lesson's 23_karras.
    pub fn edm(sigma_data: f64, noise_input: NoiseInput) -> Self {
        let prediction = Prediction::Edm { sigma_data, noise_input, mean: 0.0 };
        Self::along(prediction, NoiseSchedule::Edm {})
    }

    /// The lesson's 22_cosine: ε along the cosine schedule on pixels of \[−½, ½\]; `told_time` is false in 22_no_t.
    pub fn lesson_eps(told_time: bool) -> Self {
        Self { scale: 0.5, told_time, ..Self::along(Prediction::Eps {}, NoiseSchedule::default()) }
    }

    /// At noise level `sigma` ≥ 0, in pixels of \[−1,1\]. With s = bσ the scalings are: ε (c_skip 1, c_out −σ); v
    /// (1/(1+s²), −s/(b√(1+s²))); x₀ (0, 1/b); c_in b/√(1+s²); flow (1/(1+s), −s/(b(1+s)), c_in b/(1+s)).
    pub fn at(&self, sigma: f64) -> Coefficients {
        let (b, s) = (self.scale, self.scale * sigma);
        let root = 1f64.hypot(s);
        let along = |c_skip, c_out, c_in, target_image, target_noise| Coefficients {
            c_skip,
            c_out,
            c_in,
            c_noise: self.schedule.time(s),
            mean: 0.0,
            target_image,
            target_noise,
        };
        let mut all = match self.prediction {
            Prediction::Edm { sigma_data, noise_input, mean } => {
                let total = sigma.hypot(sigma_data);
                Coefficients {
                    c_skip: (sigma_data / total).powi(2),
                    c_out: sigma * sigma_data / total,
                    c_in: total.recip(),
                    c_noise: match noise_input {
                        NoiseInput::Sigma => sigma,
                        NoiseInput::QuarterLogSigma => sigma.ln() / 4.0,
                    },
                    mean,
                    target_image: sigma / (sigma_data * total),
                    target_noise: -sigma_data / total,
                }
            }
            Prediction::Ve {} => Coefficients {
                c_skip: 1.0,
                c_out: sigma,
                c_in: 1.0,
                c_noise: (sigma / 2.0).ln(),
                mean: 0.0,
                target_image: 0.0,
                target_noise: -1.0,
            },
            Prediction::Eps {} => along(1.0, -sigma, b / root, 0.0, 1.0),
            Prediction::V {} => along(root.powi(-2), -sigma / root, b / root, -b * s / root, root.recip()),
            Prediction::X0 {} => along(0.0, b.recip(), b / root, b, 0.0),
            Prediction::Flow {} => {
                let sum = 1.0 + s;
                along(sum.recip(), -sigma / sum, b / sum, -b, 1.0)
            }
        };
        if !self.told_time {
            all.c_noise = 0.0;
        }
        if let Some(sigma_data) = self.input_sigma_data {
            all.c_in = sigma.hypot(sigma_data).recip();
        }
        all
    }

    /// The data's standard deviation that the prediction assumes, where it assumes one.
    pub fn sigma_data(&self) -> Option<f64> {
        match self.prediction {
            Prediction::Edm { sigma_data, .. } => Some(sigma_data),
            _ => None,
        }
    }

    /// The largest σ that sampling begins with by default, in pixels of \[−1,1\]: the schedule's largest in whole hundredths, at
    /// most 80.
    pub fn sigma_max(&self) -> f64 {
        let largest = (self.schedule.largest_sigma() / self.scale).min(80.0);
        if largest > 1.0 { (100.0 * largest).floor() / 100.0 } else { largest }
    }

    /// Refuses values that are impossible.
    ///
    /// # Errors
    /// One line that names the value and what it may be.
    pub fn check(&self) -> Result<(), ScheduleError> {
        self.schedule.check()?;
        let impossible = |what: String| Err(ScheduleError(what));
        if !(1e-3..=1e3).contains(&self.scale) {
            return impossible(format!("scale {} is impossible: give 0.001 to 1000", self.scale));
        }
        match self.prediction {
            Prediction::Edm { sigma_data, .. } if !(1e-3..=1e3).contains(&sigma_data) => {
                impossible(format!("sigma_data {sigma_data} is impossible: give 0.001 to 1000"))
            }
            Prediction::Edm { mean, .. } if !(-10.0..=10.0).contains(&mean) => {
                impossible(format!("mean {mean} is impossible: give -10 to 10"))
            }
            Prediction::Edm { .. } | Prediction::Ve {} if self.input_sigma_data.is_some() => impossible(
                "edm and ve have an input scaling of their own, that cannot be normalised".to_string(),
            ),
            _ if self.input_sigma_data.is_some_and(|sigma| !(1e-3..=1e3).contains(&sigma)) => impossible(
                "an input that is normalised needs a standard deviation of 0.001 to 1000".to_string(),
            ),
            Prediction::Edm { .. } | Prediction::Ve {} if self.scale != 1.0 => {
                impossible(format!("scale {}: edm and ve have pixels of [-1,1], so scale 1", self.scale))
            }
            _ => self.check_largest_sigma(),
        }
    }

    /// Refuses σ whose noise would leave f32.
    fn check_largest_sigma(&self) -> Result<(), ScheduleError> {
        let largest = self.schedule.largest_sigma() / self.scale;
        if largest > 0.0 && largest <= SigmaSteps::LARGEST_SIGMA {
            return Ok(());
        }
        Err(ScheduleError(format!(
            "the schedule's largest sigma is {largest} at scale {}: it must be above 0 and at most {}",
            self.scale,
            SigmaSteps::LARGEST_SIGMA
        )))
    }
}

fn sigma_data() -> f64 {
    0.66
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGMAS: [f64; 6] = [0.0, 0.002, 0.3, 1.0, 7.0, 80.0];

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    fn all() -> Vec<Preconditioning> {
        let schedules = [
            NoiseSchedule::default(),
            NoiseSchedule::Sigmoid { start: -3.0, end: 3.0, tau: 1.0 },
            NoiseSchedule::LinearAlphaBar {},
            NoiseSchedule::RectifiedFlow {},
        ];
        let along = [Prediction::Eps {}, Prediction::V {}, Prediction::X0 {}, Prediction::Flow {}];
        let mut all = vec![
            Preconditioning::edm(0.66, NoiseInput::Sigma),
            Preconditioning {
                prediction: Prediction::Edm {
                    sigma_data: 0.5,
                    noise_input: NoiseInput::QuarterLogSigma,
                    mean: -0.4,
                },
                ..Preconditioning::edm(0.5, NoiseInput::Sigma)
            },
            Preconditioning { prediction: Prediction::Ve {}, ..Preconditioning::edm(1.0, NoiseInput::Sigma) },
        ];
        for schedule in schedules {
            for prediction in along {
                for scale in [1.0, 0.5, 0.3] {
                    all.push(Preconditioning { scale, ..Preconditioning::along(prediction, schedule) });
                }
            }
        }
        all
    }

    #[test]
    fn a_network_that_answers_the_target_denoises_perfectly() {
        for p in all() {
            p.check().unwrap();
            for sigma in SIGMAS {
                let c = p.at(sigma);
                for (y, n) in [(0.7, -1.3), (-1.0, 0.2)] {
                    let x = y + sigma * n;
                    let answer = c.target_image * (y - c.mean) + c.target_noise * n;
                    let denoised = c.mean + c.c_skip * (x - c.mean) + c.c_out * answer;
                    assert!((denoised - y).abs() < 1e-12 * (1.0 + sigma), "{p:?} at {sigma}: {denoised}");
                }
            }
        }
    }

    #[test]
    fn karras_and_the_variance_preserving_ones_give_unit_variance() {
        for sigma in SIGMAS {
            for sigma_data in [0.33, 0.66] {
                let c = Preconditioning::edm(sigma_data, NoiseInput::Sigma).at(sigma);
                close(c.c_in.powi(2) * (sigma * sigma + sigma_data * sigma_data), 1.0);
                close((c.target_image * sigma_data).powi(2) + c.target_noise.powi(2), 1.0);
            }
            // ε and v on data of standard deviation 1/b: input and target of unit variance.
            for prediction in [Prediction::Eps {}, Prediction::V {}] {
                let p = Preconditioning { prediction, scale: 0.5, ..Preconditioning::lesson_eps(true) };
                let (c, variance) = (p.at(sigma), 4.0);
                close(c.c_in.powi(2) * (variance + sigma * sigma), 1.0);
                close(c.target_image.powi(2) * variance + c.target_noise.powi(2), 1.0);
            }
        }
    }

    #[test]
    fn the_input_is_the_schedules_x_t() {
        // ε on pixels of [−½,½] along the cosine: c_in·x is √ᾱ·x₀ + √(1−ᾱ)·n, and c_noise is t.
        let p = Preconditioning::lesson_eps(true);
        for t in [0.1, 0.5, 0.9] {
            let alpha_bar = p.schedule.alpha_bar(t);
            let sigma = p.schedule.sigma(t) / 0.5;
            let c = p.at(sigma);
            close(c.c_in, 0.5 * alpha_bar.sqrt());
            close(c.c_in * sigma, (1.0 - alpha_bar).sqrt());
            close(c.c_noise, t);
        }
        // Rectified flow: (1 − t)·x₀ + t·n.
        let flow = Preconditioning::along(Prediction::Flow {}, NoiseSchedule::RectifiedFlow {});
        let c = flow.at(flow.schedule.sigma(0.3));
        close(c.c_in, 0.7);
        close(c.c_in * flow.schedule.sigma(0.3), 0.3);
        close(c.c_noise, 0.3);
    }

    #[test]
    fn the_time_can_be_withheld() {
        for p in all() {
            let hidden = Preconditioning { told_time: false, ..p };
            assert_eq!(hidden.at(0.7).c_noise, 0.0);
            assert_eq!(Coefficients { c_noise: p.at(0.7).c_noise, ..hidden.at(0.7) }, p.at(0.7));
        }
    }

    #[test]
    fn a_normalised_input_has_variance_one_and_changes_nothing_else() {
        let along = |p: &Preconditioning| {
            !matches!(p.prediction, Prediction::Edm { .. } | Prediction::Ve {} | Prediction::Flow {})
        };
        for p in all().into_iter().filter(along) {
            let normalised = Preconditioning { input_sigma_data: Some(0.5), ..p };
            for sigma in SIGMAS {
                let (a, b) = (p.at(sigma), normalised.at(sigma));
                // x_t = √ᾱ·b·y + √(1 − ᾱ)·n, of images y of standard deviation 0.5, over its own.
                let alpha_bar = 1.0 / (1.0 + (p.scale * sigma).powi(2));
                let std = (alpha_bar * (p.scale * 0.5).powi(2) + 1.0 - alpha_bar).sqrt();
                close(b.c_in, a.c_in / std);
                assert_eq!(Coefficients { c_in: a.c_in, ..b }, a);
            }
        }
    }

    #[test]
    fn sampling_begins_where_the_schedule_ends() {
        assert_eq!(Preconditioning::lesson_eps(true).sigma_max(), 80.0);
        let linear = NoiseSchedule::LinearAlphaBar {};
        let p = Preconditioning { schedule: linear, scale: 0.5, ..Preconditioning::lesson_eps(true) };
        assert_eq!(p.sigma_max(), 63.21);
        assert_eq!(Preconditioning::edm(0.66, NoiseInput::Sigma).sigma_max(), 80.0);
    }

    #[test]
    fn impossible_values_are_named() {
        let named = |p: Preconditioning, what: &str| {
            assert!(p.check().unwrap_err().to_string().contains(what), "{p:?}");
        };
        named(Preconditioning { scale: 0.0, ..Preconditioning::lesson_eps(true) }, "scale 0");
        named(Preconditioning::edm(-1.0, NoiseInput::Sigma), "sigma_data -1");
        let input_sigma_data = Some(0.66);
        named(
            Preconditioning { input_sigma_data, ..Preconditioning::edm(1.0, NoiseInput::Sigma) },
            "of their own",
        );
        let input_sigma_data = Some(0.0);
        named(Preconditioning { input_sigma_data, ..Preconditioning::lesson_eps(true) }, "normalised");
        named(Preconditioning { scale: 0.5, ..Preconditioning::edm(1.0, NoiseInput::Sigma) }, "scale 0.5");
    }
}
