//! temp
use candle_core::*;
use candle_nn::ModuleT;
use elucidate_core::{classifier::*, params::*, rng::*};
use std::collections::HashMap;
use std::time::Instant;
fn main() -> Result<()> {
    let s = Streams::new(0);
    let (m, p) = Params::init(&s, &Device::Cpu, |vb| ResidualClassifier::new(1, 10, vb))?;
    println!("{} params", p.count());
    let n = 256;
    let x = s.normal_images("x", 0..n as u64, &[1, 32, 32], &Device::Cpu)?;
    let t = Tensor::from_vec((0..n as u32).map(|i| i % 10).collect::<Vec<_>>(), n, &Device::Cpu)?;
    let before: HashMap<String, Tensor> = p.snapshot()?.into_iter().collect();
    candle_core::safetensors::save(&before, "/tmp/cls_before.st")?;
    for i in 0..3 {
        let t0 = Instant::now();
        let y = m.forward_t(&x, true)?;
        let l = candle_nn::loss::cross_entropy(&y, &t)?;
        let t1 = Instant::now();
        let g = l.backward()?;
        println!("fwd {:?} bwd {:?} grads {}", t1 - t0, t1.elapsed(), g.get_ids().count());
        if i == 0 {
            let mut out: HashMap<String, Tensor> = HashMap::new();
            for (k, v) in p.vars() {
                if let Some(g) = g.get(v) {
                    out.insert(format!("grad.{k}"), g.clone());
                }
            }
            for (k, v) in p.snapshot()? {
                out.insert(format!("after.{k}"), v);
            }
            out.insert("x".into(), x.clone());
            out.insert("y".into(), y.clone());
            out.insert("eval".into(), m.forward_t(&x, false)?);
            out.insert("features".into(), m.features(&x)?);
            candle_core::safetensors::save(&out, "/tmp/cls_out.st")?;
        }
    }
    Ok(())
}
