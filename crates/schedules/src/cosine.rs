//! The cosine schedule in continuous time (Nichol & Dhariwal 2021, without their offset), and DDIM's steps along it.
//!
//! ᾱ is the share of the image's variance in x_t = √ᾱ·x₀ + √(1−ᾱ)·ε: 1 at t = 0, all image; 0 at t = 1, all noise.

use std::f64::consts::PI;

/// The times that training draws from: t uniform in \[0, `LAST_TIME`\]. At t = 1 the image could not be had back.
pub const LAST_TIME: f64 = 0.999;

/// ᾱ(t) = cos²(πt/2) for `t` in \[0,1\].
pub fn alpha_bar(t: f64) -> f64 {
    (PI * t / 2.0).cos().powi(2)
}

/// The time of an ᾱ in \[0,1\]: t = 2/π · arccos √ᾱ.
pub fn time_of(alpha_bar: f64) -> f64 {
    2.0 / PI * alpha_bar.sqrt().acos()
}

/// ln(ᾱ/(1−ᾱ)), the log signal-to-noise ratio: −∞ at 0, ∞ at 1.
pub fn logit(alpha_bar: f64) -> f64 {
    (alpha_bar / (1.0 - alpha_bar)).ln()
}

/// ᾱ of a log signal-to-noise ratio: the inverse of [`logit`].
pub fn sigmoid(logit: f64) -> f64 {
    (1.0 + (-logit).exp()).recip()
}

/// σ = √((1−ᾱ)/ᾱ): the noise beside an image of scale one, in the units of x₀. ∞ at ᾱ = 0.
pub fn sigma(alpha_bar: f64) -> f64 {
    ((1.0 - alpha_bar) / alpha_bar).sqrt()
}

/// ᾱ of a σ in the units of x₀: 1/(1+σ²), the inverse of [`sigma`].
pub fn alpha_bar_of_sigma(sigma: f64) -> f64 {
    (1.0 + sigma * sigma).recip()
}

/// The ᾱ of DDIM's `steps` steps, and where the last one ends: ᾱ(t) for t evenly from 1 − 1/steps down to 0, then 1. So
/// the last step begins and ends at 1, as the lesson has it.
pub fn ddim_alpha_bars(steps: usize) -> Vec<f64> {
    (0..steps).rev().map(|i| alpha_bar(i as f64 / steps as f64)).chain([1.0]).collect()
}

/// The standard deviation of the fresh noise in a DDIM step from ᾱ to ᾱ′ = `next` (Song 2020, eq. 16):
/// η·√((1−ᾱ′)/(1−ᾱ))·√(1−ᾱ/ᾱ′), and 0 where that leaves 1−ᾱ′ ≤ σ² + 0.01 or is not a number, as the lesson has it.
pub fn ddim_sigma(alpha_bar: f64, next: f64, eta: f64) -> f64 {
    let sigma = eta * ((1.0 - next) / (1.0 - alpha_bar)).sqrt() * (1.0 - alpha_bar / next).sqrt();
    if 1.0 - next > sigma * sigma + 0.01 { sigma } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn the_schedule_goes_from_image_to_noise() {
        close(alpha_bar(0.0), 1.0);
        close(alpha_bar(0.5), 0.5);
        close(alpha_bar(2.0 / 3.0), 0.25);
        assert!(alpha_bar(1.0) < 1e-30);
        assert!((0..100).all(|i| alpha_bar(f64::from(i) / 100.0) > alpha_bar(f64::from(i + 1) / 100.0)));
    }

    #[test]
    fn inverses_undo() {
        for t in [0.0, 0.1, 0.5, 0.9, LAST_TIME] {
            assert!((time_of(alpha_bar(t)) - t).abs() < 1e-7, "{t}");
        }
        for a in [1e-4, 0.2, 0.5, 0.99] {
            close(alpha_bar(time_of(a)), a);
            close(sigmoid(logit(a)), a);
            close(alpha_bar_of_sigma(sigma(a)), a);
            // logSNR = −2·ln σ.
            close(logit(a), -2.0 * sigma(a).ln());
        }
    }

    #[test]
    fn ddim_steps_end_in_one_twice() {
        let steps = ddim_alpha_bars(4);
        for (step, expected) in steps.iter().zip([alpha_bar(0.75), 0.5, alpha_bar(0.25), 1.0, 1.0]) {
            close(*step, expected);
        }
        assert_eq!(steps.len(), 5);
    }

    #[test]
    fn the_fresh_noise_of_eta_one_is_the_posteriors() {
        // Ho 2020, eq. 7: β̃ = (1−ᾱ′)/(1−ᾱ)·β with β = 1 − ᾱ/ᾱ′.
        let (alpha_bar, next) = (0.3, 0.5);
        close(ddim_sigma(alpha_bar, next, 1.0).powi(2), 0.5 / 0.7 * (1.0 - 0.3 / 0.5));
        close(ddim_sigma(alpha_bar, next, 0.5), ddim_sigma(alpha_bar, next, 1.0) / 2.0);
        assert_eq!(ddim_sigma(alpha_bar, next, 0.0), 0.0);
    }

    #[test]
    fn no_fresh_noise_where_there_is_no_room_for_it() {
        // 1 − ᾱ′ = 0.005 is below the lesson's 0.01.
        assert_eq!(ddim_sigma(0.99, 0.995, 1.0), 0.0);
        assert_eq!(ddim_sigma(1.0, 1.0, 1.0), 0.0);
        // An estimate beyond the step's end.
        assert_eq!(ddim_sigma(0.9, 0.5, 1.0), 0.0);
    }
}
