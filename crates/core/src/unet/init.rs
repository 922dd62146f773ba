//! The notebook's initialisation of the UNet.

use crate::params::Params;
use crate::rng::{Stream, Streams};
use candle_core::{Result, Tensor};
use faer::Mat;
use rand_distr::{Distribution, StandardNormal};

/// Sets the weights that the notebook does not leave at PyTorch's defaults: in the down and up blocks every residual
/// block's second convolution to zero and every downsampling convolution to an orthogonal one (Saxe 2013), and the
/// output convolution to zero; biases stay as they are. Orthogonal weights come from stream ("orthogonal", name).
///
/// # Errors
/// Those of the device.
pub fn notebook_init(params: &Params, streams: &Streams) -> Result<()> {
    for (name, var) in params.vars() {
        let in_levels = name.starts_with("down_blocks.") || name.starts_with("up_blocks.");
        let is_zero = name == "conv_out.weight" || (in_levels && name.ends_with(".conv2.weight"));
        if is_zero {
            var.set(&var.zeros_like()?)?;
        } else if name.ends_with(".downsamplers.0.conv.weight") {
            let dims = var.dims();
            let (rows, columns) = (dims[0], dims[1..].iter().product());
            let mut stream = streams.stream(&format!("orthogonal {name}"), 0);
            let values = orthogonal(rows, columns, &mut stream);
            var.set(
                &Tensor::from_vec(values, var.shape(), &candle_core::Device::Cpu)?.to_device(var.device())?,
            )?;
        }
    }
    Ok(())
}

/// A (rows, columns) matrix, by rows, whose shorter side is orthonormal: Q of a normal matrix's QR decomposition, with
/// the signs of R's diagonal, so that it is uniform among all such (Mezzadri 2007).
fn orthogonal(rows: usize, columns: usize, stream: &mut Stream) -> Vec<f32> {
    let (long, short) = (rows.max(columns), rows.min(columns));
    let normal = Mat::<f64>::from_fn(long, short, |_, _| StandardNormal.sample(stream));
    let qr = normal.qr();
    let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
    let value = |i: usize, j: usize| (q[(i, j)] * r[(j, j)].signum()) as f32;
    let entries = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
    entries.map(|(i, j)| if rows >= columns { value(i, j) } else { value(j, i) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unet::{UNet2DConfig, UNet2DModel};
    use candle_core::Device;

    #[test]
    fn orthogonal_matrices_are_orthonormal_on_their_shorter_side() {
        for (rows, columns) in [(7, 3), (3, 7), (5, 5)] {
            let values = orthogonal(rows, columns, &mut Streams::new(1).stream("test", 0));
            let at = |i: usize, j: usize| values[i * columns + j];
            let side = rows.min(columns);
            for a in 0..side {
                for b in 0..side {
                    let dot: f32 = match rows >= columns {
                        true => (0..rows).map(|i| at(i, a) * at(i, b)).sum(),
                        false => (0..columns).map(|j| at(a, j) * at(b, j)).sum(),
                    };
                    assert!(
                        (dot - f32::from(u8::from(a == b))).abs() < 1e-5,
                        "{rows}×{columns}: {a}·{b} = {dot}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_network_begins_as_its_output_bias() -> Result<()> {
        let config = UNet2DConfig::with_blocks(&[8, 16], 1, &[1]);
        let streams = Streams::new(3);
        let (model, params) = Params::init(&streams, &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
        let x = streams.normal_images("x", 0..2, &[1, 8, 8], &Device::Cpu)?;
        let time = Tensor::new(&[0.3f32, 4.0], &Device::Cpu)?;
        let bias = params.vars()["conv_out.bias"].to_vec1::<f32>()?[0];
        let spread = |y: Tensor| (y - f64::from(bias))?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
        assert!(spread(model.forward(&x, &time)?)? > 1e-3);
        notebook_init(&params, &streams)?;
        assert_eq!(spread(model.forward(&x, &time)?)?, 0.0);
        Ok(())
    }
}
