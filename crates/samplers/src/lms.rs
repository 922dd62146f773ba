//! Linear multistep.

use crate::options::options;
use crate::sampling::{Sampling, slope};
use crate::{Domain, Sample};
use candle_core::{Result, Tensor};
use std::collections::VecDeque;

options! {
    /// Linear multistep on the probability-flow ODE (Adams–Bashforth with uneven steps; k-diffusion's `sample_lms`): the slope is
    /// the polynomial through the last `order` slopes, integrated over the step. The first steps, which have fewer slopes behind
    /// them, are of a lower order. One evaluation a step.
    pub struct Lms {
        /// Order of the method
        order: usize = 4, Domain::Whole(1, 4);
    }
}

impl Sample for Lms {
    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let mut slopes: VecDeque<Tensor> = VecDeque::with_capacity(self.order);
        for i in 0..sigmas.len() - 1 {
            let denoised = sampling.begin_step(&x, sigmas[i])?;
            slopes.push_front(slope(&x, &denoised, sigmas[i])?);
            slopes.truncate(self.order);
            let nodes: Vec<f64> = (0..slopes.len()).map(|j| sigmas[i - j]).collect();
            for (d, coefficient) in slopes.iter().zip(coefficients(&nodes, sigmas[i], sigmas[i + 1])) {
                x = (x + (d * coefficient)?)?;
            }
        }
        Ok(x)
    }
}

/// ∫ ℓ_j(σ) dσ from `from` to `to` for each Lagrange basis polynomial ℓ_j over `nodes`, exactly: the polynomial is
/// multiplied out in u = (σ − from)/(to − from) and integrated term by term.
fn coefficients(nodes: &[f64], from: f64, to: f64) -> Vec<f64> {
    let width = to - from;
    let nodes: Vec<f64> = nodes.iter().map(|node| (node - from) / width).collect();
    let integral = |j: usize| {
        let mut polynomial = vec![1.0];
        for (k, node) in nodes.iter().enumerate().filter(|&(k, _)| k != j) {
            // Times (u − u_k)/(u_j − u_k).
            let scale = (nodes[j] - node).recip();
            let mut product = vec![0.0; polynomial.len() + 1];
            for (power, c) in polynomial.iter().enumerate() {
                product[power + 1] += c * scale;
                product[power] -= c * scale * nodes[k];
            }
            polynomial = product;
        }
        width * polynomial.iter().enumerate().map(|(power, c)| c / (power as f64 + 1.0)).sum::<f64>()
    };
    (0..nodes.len()).map(integral).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenly_spaced_nodes_give_adams_bashforth() {
        let expected: [&[f64]; 4] = [
            &[1.0],
            &[3.0 / 2.0, -1.0 / 2.0],
            &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        ];
        for expected in expected {
            let nodes: Vec<f64> = (0..expected.len()).map(|j| -(j as f64)).collect();
            for (ours, expected) in coefficients(&nodes, 0.0, 1.0).iter().zip(expected) {
                assert!((ours - expected).abs() < 1e-14, "{ours} is not {expected}");
            }
        }
    }

    #[test]
    fn polynomials_are_integrated_exactly() {
        let nodes = [0.7, 1.9, 4.0, 11.0];
        let (from, to) = (0.7, 0.2);
        for power in 0..4 {
            let weights = coefficients(&nodes, from, to);
            let ours: f64 = nodes.iter().zip(weights).map(|(node, w)| node.powi(power) * w).sum();
            let antiderivative = |s: f64| s.powi(power + 1) / f64::from(power + 1);
            let exact = antiderivative(to) - antiderivative(from);
            assert!((ours - exact).abs() < 1e-12, "degree {power}: {ours} is not {exact}");
        }
    }
}
