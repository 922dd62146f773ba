//! DPM-Solver's steps of orders 1 to 3 (Lu 2022a) in λ = −ln σ.

use crate::sampling::{Sampling, ancestral_step, slope};
use candle_core::{Result, Tensor};

/// σ of λ.
pub(crate) fn sigma_of(lambda: f64) -> f64 {
    (-lambda).exp()
}

/// A step under way: x at λ and the noise ε̂ there.
pub(crate) struct DpmStep<'a> {
    pub x: &'a Tensor,
    pub eps: &'a Tensor,
    pub lambda: f64,
}

/// Where a step of order 2 or 3 looked in between: ε̂ at λ + r·h.
pub(crate) struct Inner {
    r: f64,
    eps: Tensor,
}

impl DpmStep<'_> {
    /// Order 1 (eq. 3.7): x − σ′·(e^h − 1)·ε̂.
    pub(crate) fn order_1(&self, next: f64) -> Result<Tensor> {
        self.x - (self.eps * (sigma_of(next) * (next - self.lambda).exp_m1()))?
    }

    /// ε̂ at λ + `r`·h, to where order 1 leads.
    pub(crate) fn look(&self, sampling: &mut Sampling, next: f64, r: f64) -> Result<Inner> {
        let s = self.lambda + r * (next - self.lambda);
        let u = self.order_1(s)?;
        Ok(Inner { r, eps: eps(sampling, &u, s)? })
    }

    /// Order 2 (algorithm 4).
    pub(crate) fn order_2(&self, next: f64, inner: &Inner) -> Result<Tensor> {
        let change = (&inner.eps - self.eps)?;
        self.order_1(next)? - (change * (sigma_of(next) / (2.0 * inner.r) * (next - self.lambda).exp_m1()))?
    }

    /// Order 3 (algorithm 5) with r₂ = ⅔; `inner` is at r₁.
    pub(crate) fn order_3(&self, sampling: &mut Sampling, next: f64, inner: &Inner) -> Result<Tensor> {
        let (h, r_2) = (next - self.lambda, 2.0 / 3.0);
        let phi_2 = |h: f64| h.exp_m1() / h - 1.0;
        let s = self.lambda + r_2 * h;
        let change = (&inner.eps - self.eps)?;
        let u = (self.order_1(s)? - (change * (sigma_of(s) * r_2 / inner.r * phi_2(r_2 * h)))?)?;
        let change = (eps(sampling, &u, s)? - self.eps)?;
        self.order_1(next)? - (change * (sigma_of(next) / r_2 * phi_2(h)))?
    }
}

/// ε̂ = (x − D(x; σ))/σ at λ.
fn eps(sampling: &mut Sampling, x: &Tensor, lambda: f64) -> Result<Tensor> {
    let sigma = sigma_of(lambda);
    slope(x, &sampling.denoise(x, sigma)?, sigma)
}

/// Where an ancestral step from `lambda` to `next` goes down to, not beyond `end`, and σ_up for the way back.
pub(crate) fn down(lambda: f64, next: f64, end: f64, eta: f64) -> (f64, f64) {
    if eta == 0.0 {
        return (next, 0.0);
    }
    let (sigma_down, _) = ancestral_step(sigma_of(lambda), sigma_of(next), eta);
    let down = end.min(-sigma_down.ln());
    (down, (sigma_of(next).powi(2) - sigma_of(down).powi(2)).max(0.0).sqrt())
}
