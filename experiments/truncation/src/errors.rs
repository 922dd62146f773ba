//! How far from the ODE's solution samplers end.

use crate::ideal::IdealDenoiser;
use crate::options::{TOLERANCES, deterministic, within};
use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use elucidate_lab::run::interrupt;
use elucidate_samplers::{Denoiser, Sampled, Setting};
use elucidate_schedules::Preconditioning;
use serde::Serialize;

/// σ at which the reference solution leaves the ODE for its last step down to 0.
const SMALLEST_SIGMA: f64 = 5e-4;

/// The ODE dx/dσ = (x − D(x; σ))/σ and the points where it begins, at σ 80.
pub struct Problem<'a> {
    /// The denoiser's name.
    pub name: &'a str,
    /// D(x; σ).
    pub denoiser: &'a dyn Denoiser,
    /// The images of the ideal denoiser, to tell which of them a path ends at.
    pub images: Option<&'a IdealDenoiser>,
    /// What settings are of.
    pub preconditioning: Preconditioning,
    /// Noise of variance 1, (n, 1, 32, 32), f64.
    pub start: &'a Tensor,
    /// At most so many evaluations each.
    pub budgets: &'a [usize],
}

/// Where the ODE's solutions are at a noise level.
pub struct End {
    /// The noise level, 0 or above.
    pub sigma: f64,
    solution: Tensor,
    /// Which image each of them ends at.
    ends_at: Option<Vec<u32>>,
    /// Root mean square of what the solution and one of half as many steps differ by, in pixels of \[−1,1\].
    pub error: f64,
}

/// A row of errors.csv.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorRow {
    /// The denoiser.
    pub denoiser: String,
    /// The sampler, with what is not at its default.
    pub sampler: String,
    /// The setting's canonical text.
    pub setting: String,
    /// The noise level at which the paths are compared.
    pub end: f64,
    /// The most evaluations that were allowed.
    pub budget: usize,
    /// Those that it took.
    pub nfe: usize,
    /// Root mean square over images and pixels of the distance from the reference's end, in pixels of \[−1,1\].
    pub rms: f64,
    /// The median over images of the root mean square over pixels.
    pub median: f64,
    /// The share of paths that end at another training image than the reference's.
    pub elsewhere: Option<f64>,
    /// What the median falls by, as a power of the evaluations, over all budgets of the sampler.
    pub order: Option<f64>,
}

/// A row of choices.csv: an error by how the noise levels are chosen.
#[derive(Debug, Clone, Serialize)]
pub struct ChoiceRow {
    denoiser: String,
    sampler: String,
    budget: usize,
    rho: f64,
    sigma_min: f64,
    nfe: usize,
    rms: f64,
    median: f64,
}

impl Problem<'_> {
    /// Where the solutions are at `sigma`: Heun's method with `steps` steps.
    ///
    /// # Errors
    /// When the denoiser fails, or the run is to stop.
    pub fn end(&self, sigma: f64, steps: usize) -> Result<End> {
        let solution = |steps: usize| -> Result<Tensor> {
            let last = if sigma > 0.0 { sigma } else { SMALLEST_SIGMA };
            Ok(self.sample(&self.setting(&format!("heun steps={steps} sigma_min={last}"))?, sigma)?.images)
        };
        let (finest, halved) = (solution(steps)?, solution(steps / 2)?);
        let ends_at = self.images.map(|images| images.nearest(&finest)).transpose()?;
        let error = root_mean_square(&distances(&halved, &finest)?);
        Ok(End { sigma, solution: finest, ends_at, error })
    }

    fn setting(&self, text: &str) -> Result<Setting> {
        Ok(Setting::parse(text, &self.preconditioning)?)
    }

    /// Down to `end`: to 0, or no farther than the setting's σ_min.
    fn sample(&self, setting: &Setting, end: f64) -> Result<Sampled> {
        interrupt::check()?;
        let mut sigmas = setting.sigmas(&self.preconditioning)?;
        if end > 0.0 {
            sigmas.retain(|&sigma| sigma > 0.0);
        }
        let x = (self.start * setting.sampler.start_std(sigmas[0]))?;
        self.solve(setting, &x, &sigmas)
    }

    /// From `x` along `sigmas`; noise is none.
    fn solve(&self, setting: &Setting, x: &Tensor, sigmas: &[f64]) -> Result<Sampled> {
        let none = &mut |like: &Tensor, _: f64, _: f64| like.zeros_like();
        let sampled = setting.sampler.sample(self.denoiser, x, sigmas, none, &mut |_| Ok(()));
        sampled.with_context(|| format!("{}: {setting}", self.name))
    }

    /// How far from `end` a setting's paths are there.
    fn error_of(&self, setting: &Setting, end: &End, budget: usize) -> Result<ErrorRow> {
        let Sampled { images, nfe } = self.sample(setting, end.sigma)?;
        let distances = distances(&images, &end.solution)?;
        let elsewhere = match (self.images, &end.ends_at) {
            (Some(known), Some(ends_at)) => {
                let others = known.nearest(&images)?.iter().zip(ends_at).filter(|(a, b)| a != b).count();
                Some(others as f64 / ends_at.len() as f64)
            }
            _ => None,
        };
        Ok(ErrorRow {
            denoiser: self.name.to_string(),
            sampler: setting.sampler.name().to_string(),
            setting: setting.to_string(),
            end: end.sigma,
            budget,
            nfe,
            rms: root_mean_square(&distances),
            median: median(&distances),
            elsewhere,
            order: None,
        })
    }

    /// The error of every deterministic sampler at each budget.
    ///
    /// # Errors
    /// When the denoiser fails, or the run is to stop.
    pub fn by_sampler(&self, end: &End) -> Result<Vec<ErrorRow>> {
        let mut all = vec![];
        let to = if end.sigma > 0.0 { format!("sigma_min={}", end.sigma) } else { String::new() };
        for sampler in deterministic() {
            let row = |&budget: &usize| {
                self.error_of(&within(&sampler, budget, end.sigma, &to, &self.preconditioning)?, end, budget)
            };
            all.push(self.budgets.iter().map(row).collect::<Result<Vec<_>>>()?);
        }
        let fast = |&budget: &usize| {
            self.error_of(&self.setting(&format!("dpm_fast nfe={budget} {to}"))?, end, budget)
        };
        all.push(self.budgets.iter().map(fast).collect::<Result<Vec<_>>>()?);
        all.push(self.adaptive(end, &to)?);
        for rows in &mut all {
            let order = order(rows);
            rows.iter_mut().for_each(|row| row.order = order);
        }
        Ok(all.concat())
    }

    /// `dpm_adaptive` at each budget: with the tolerance, of [`TOLERANCES`], that takes most of it.
    fn adaptive(&self, end: &End, to: &str) -> Result<Vec<ErrorRow>> {
        let mut tried = vec![];
        for rtol in TOLERANCES {
            let setting = format!("dpm_adaptive rtol={rtol} atol={} {to}", rtol / 10.0);
            tried.push(self.error_of(&self.setting(&setting)?, end, 0)?);
            // Tighter ones take more still.
            if tried.last().map(|row| row.nfe) > self.budgets.last().copied() {
                break;
            }
        }
        let within =
            |budget: usize| tried.iter().filter(move |row| row.nfe <= budget).max_by_key(|row| row.nfe);
        Ok(self
            .budgets
            .iter()
            .filter_map(|&budget| Some(ErrorRow { budget, ..within(budget)?.clone() }))
            .collect())
    }

    /// The error by ρ and σ_min, of Heun and DPM-Solver++(2M), at each budget but the largest.
    ///
    /// # Errors
    /// When the denoiser fails, or the run is to stop.
    pub fn by_choice(&self, end: &End) -> Result<Vec<ChoiceRow>> {
        let mut rows = vec![];
        for (sampler, budget) in ["heun", "dpmpp_2m"]
            .iter()
            .flat_map(|s| self.budgets[..self.budgets.len() - 1].iter().map(move |b| (s, *b)))
        {
            for (rho, sigma_min) in [3.0, 5.0, 7.0, 9.0]
                .iter()
                .flat_map(|rho| [0.002, 0.01, 0.03].map(|sigma_min| (*rho, sigma_min)))
            {
                let more = format!("rho={rho} sigma_min={sigma_min}");
                let row =
                    self.error_of(&within(sampler, budget, 0.0, &more, &self.preconditioning)?, end, budget)?;
                rows.push(ChoiceRow {
                    denoiser: row.denoiser,
                    sampler: row.sampler,
                    budget,
                    rho,
                    sigma_min,
                    nfe: row.nfe,
                    rms: row.rms,
                    median: row.median,
                });
            }
        }
        Ok(rows)
    }

    /// What each step of `samplers` with `steps` steps at `rho` does wrong where it begins on the solution (Karras 2022, appendix D.1): for
    /// each sampler (σ, root mean square) of each step but the last, which goes to 0. The solution between two σ is Heun's with `finer` steps.
    ///
    /// # Errors
    /// When the denoiser fails, or the run is to stop.
    pub fn local_errors(
        &self,
        samplers: &[&str],
        steps: usize,
        rho: f64,
        finer: usize,
    ) -> Result<Vec<Vec<(f64, f64)>>> {
        let settings: Vec<Setting> = samplers.iter().map(|name| self.setting(name)).collect::<Result<_>>()?;
        let heun = self.setting(&format!("heun steps={steps} rho={rho}"))?;
        let sigmas = heun.sigmas(&self.preconditioning)?;
        let mut x = (self.start * sigmas[0])?;
        let mut errors = vec![vec![]; samplers.len()];
        for pair in sigmas.windows(2).filter(|pair| pair[1] > 0.0) {
            interrupt::check()?;
            let solution = self.solve(&heun, &x, &between(pair[0], pair[1], finer))?.images;
            for (setting, errors) in settings.iter().zip(&mut errors) {
                let stepped = self.solve(setting, &x, pair)?.images;
                errors.push((pair[0], root_mean_square(&distances(&stepped, &solution)?)));
            }
            x = solution;
        }
        Ok(errors)
    }
}

/// `n` steps from `from` to `to`, as ρ 7 spaces them.
fn between(from: f64, to: f64, n: usize) -> Vec<f64> {
    let root = |sigma: f64| sigma.powf(1.0 / 7.0);
    let mut sigmas: Vec<f64> =
        (0..=n).map(|i| (root(from) + i as f64 / n as f64 * (root(to) - root(from))).powi(7)).collect();
    (sigmas[0], sigmas[n]) = (from, to);
    sigmas
}

/// The root mean square over pixels of a − b, for each image.
fn distances(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let squares = (a - b)?.to_dtype(DType::F64)?.flatten_from(1)?.sqr()?.mean(1)?;
    Ok(squares.sqrt()?.to_vec1()?)
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// Minus the slope of ln median over ln nfe, by least squares.
fn order(rows: &[ErrorRow]) -> Option<f64> {
    let points: Vec<(f64, f64)> = rows.iter().map(|row| ((row.nfe as f64).ln(), row.median.ln())).collect();
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (points.len() > 1 && under > 0.0 && over.is_finite()).then(|| -over / under)
}
