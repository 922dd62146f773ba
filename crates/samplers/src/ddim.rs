//! DDIM as the lesson has it, in ᾱ coordinates: x_t = √ᾱ·x₀ + √(1−ᾱ)·ε, in the units that the network was trained in.

use crate::{Noise, vp_denoised};
use candle_core::{Result, Tensor, bail};
use elucidate_schedules::cosine::{ddim_alpha_bars, ddim_sigma};

/// DDIM's options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ddim {
    /// How much fresh noise a step takes: 0 (none) to 1 (as much as DDPM, Ho 2020).
    pub eta: f64,
    /// x̂₀ is clamped to ± this at each step; infinite for no clamp.
    pub x0_clamp: f64,
}

/// What is done with the estimates ᾱ̂ of the noise level, where a model gives them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimates {
    /// A factor f where they are clamped to \[m/f, f·m\] around the images' median m; the notebook's is 2.
    pub near_median: Option<f64>,
    /// Where the fresh noise's σ comes from.
    pub sigma: SigmaRule,
}

/// Where the standard deviation σ of a step's fresh noise comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmaRule {
    /// From the schedule's ᾱ, as without estimates.
    Schedule,
    /// From the estimates' median in place of ᾱ.
    Median,
    /// Half of the schedule's.
    Halved,
}

/// A model that estimates ᾱ of each image of x_t: (n, …) to n values in \[0,1\].
pub type Estimator<'a> = &'a dyn Fn(&Tensor) -> Result<Vec<f64>>;

/// A step under way.
#[derive(Debug)]
pub struct DdimStep<'a> {
    /// Which, from 0.
    pub index: usize,
    /// The schedule's ᾱ, where the step begins.
    pub alpha_bar: f64,
    /// x_t, where the step begins.
    pub x: &'a Tensor,
    /// The estimates of each image's ᾱ as the model gave them; none where there is no estimator.
    pub estimates: &'a [f64],
    /// The clean images that the step expects, clamped.
    pub x0: &'a Tensor,
}

/// DDIM (Song 2020, eq. 12) over t evenly from 1 − 1/steps to 0 on the cosine schedule. `network`: x_t and its time t to ε̂;
/// `x`: standard normal noise (n, …). Where there is an estimator, x̂₀ = (x_t − √(1−ᾱ̂)·ε̂)/√ᾱ̂ takes each image's own
/// estimate ᾱ̂ instead of the schedule's ᾱ; the median is that of the n images. Returns the last x̂₀. One evaluation a
/// step.
///
/// # Errors
/// When `eta` is not in \[0,1\], there are no steps, or a model or the noise fails.
pub fn ddim(
    network: impl Fn(&Tensor, f64) -> Result<Tensor>,
    x: &Tensor,
    steps: usize,
    options: Ddim,
    estimator: Option<(Estimator, Estimates)>,
    noise: Noise,
    observe: &mut dyn FnMut(DdimStep) -> Result<()>,
) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&options.eta) || steps == 0 {
        bail!("eta {} and {steps} steps: eta must be 0 to 1, and there must be a step", options.eta);
    }
    let mut x = x.clone();
    let mut x0 = x.clone();
    for (index, step) in ddim_alpha_bars(steps).windows(2).enumerate() {
        let (alpha_bar, next) = (step[0], step[1]);
        let eps = network(&x, 1.0 - (index + 1) as f64 / steps as f64)?;
        let mut sigma = ddim_sigma(alpha_bar, next, options.eta);
        let mut found = vec![];
        let mut alpha_bar_hat = vec![alpha_bar; x.dim(0)?];
        if let Some((estimate, rule)) = estimator {
            found = estimate(&x)?;
            let median = median(&found);
            alpha_bar_hat.clone_from(&found);
            if let Some(factor) = rule.near_median {
                alpha_bar_hat.iter_mut().for_each(|a| *a = a.max(median / factor).min(median * factor));
            }
            sigma = match rule.sigma {
                SigmaRule::Schedule => sigma,
                SigmaRule::Median => ddim_sigma(median, next, options.eta),
                SigmaRule::Halved => sigma / 2.0,
            };
        }
        x0 = vp_denoised(&x, &eps, &alpha_bar_hat)?;
        if options.x0_clamp.is_finite() {
            x0 = x0.clamp(-options.x0_clamp, options.x0_clamp)?;
        }
        observe(DdimStep { index, alpha_bar, x: &x, estimates: &found, x0: &x0 })?;
        // x′ = √ᾱ′·x̂₀ + √(1−ᾱ′−σ²)·ε̂ + σ·z
        let direction = (1.0 - next - sigma * sigma).max(0.0).sqrt();
        x = ((&x0 * next.sqrt())? + (eps * direction)?)?;
        if sigma > 0.0 {
            x = (&x + (noise(&x)? * sigma)?)?;
        }
    }
    Ok(x0)
}

/// The value in the middle; of an even number the lower of the two, as PyTorch has it.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_lower_middle_value() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
