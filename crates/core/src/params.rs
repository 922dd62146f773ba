//! A model's named parameters: made from seeded streams, trained as candle variables, read from and written to
//! safetensors.

use crate::rng::Streams;
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_distr::{Distribution, StandardNormal, StandardUniform};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// Tensors by name, in a fixed order.
pub type Tensors = BTreeMap<String, Tensor>;

/// A model's trainable parameters by name, in a fixed order.
#[derive(Debug, Clone, Default)]
pub struct Params {
    vars: BTreeMap<String, Var>,
}

impl Params {
    /// Builds a model whose parameters are drawn afresh: each from the stream ("init", its name), by the
    /// initialisation that its layer asks for. Returns the model, which shares its parameters with the returned set.
    ///
    /// # Errors
    /// Those of `build`, and those of the device.
    pub fn init<M>(
        streams: &Streams,
        device: &Device,
        build: impl FnOnce(VarBuilder) -> Result<M>,
    ) -> Result<(M, Self)> {
        let vars = Arc::new(Mutex::new(BTreeMap::new()));
        let backend = InitBackend { streams: *streams, vars: vars.clone() };
        let vb = VarBuilder::from_backend(Box::new(backend), DType::F32, device.clone());
        let model = build(vb)?;
        let vars = std::mem::take(&mut *vars.lock().expect("no thread panics while it holds the lock"));
        Ok((model, Self { vars }))
    }

    /// The parameters as candle variables.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// How many numbers they hold in all.
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// A copy of the values, cut off from the variables and from the gradient's bookkeeping.
    ///
    /// # Errors
    /// Those of the device.
    pub fn snapshot(&self) -> Result<Tensors> {
        self.vars.iter().map(|(k, v)| Ok((k.clone(), v.as_detached_tensor().copy()?))).collect()
    }

    /// Sets every parameter from `values`.
    ///
    /// # Errors
    /// When a name is missing or unknown, or a shape differs; nothing has been changed then.
    pub fn assign(&self, values: &Tensors) -> Result<()> {
        for name in values.keys() {
            if !self.vars.contains_key(name) {
                bail!("parameter {name} is unknown to this model");
            }
        }
        for (name, var) in &self.vars {
            let Some(value) = values.get(name) else { bail!("parameter {name} is missing") };
            if value.shape() != var.shape() {
                bail!("parameter {name} has shape {:?}; this model needs {:?}", value.dims(), var.dims());
            }
        }
        for (name, var) in &self.vars {
            var.set(&values[name].to_dtype(DType::F32)?.to_device(var.device())?)?;
        }
        Ok(())
    }
}

/// Whether no value of it is infinite or not a number.
///
/// # Errors
/// Those of the device.
pub fn is_finite(tensor: &Tensor) -> Result<bool> {
    // 0 times anything finite is 0.
    Ok(tensor.affine(0.0, 0.0)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()? == 0.0)
}

/// A builder over given tensors, for a model that is only evaluated.
pub fn frozen(tensors: &Tensors, device: &Device) -> VarBuilder<'static> {
    let map: HashMap<String, Tensor> = tensors.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    VarBuilder::from_tensors(map, DType::F32, device)
}

struct InitBackend {
    streams: Streams,
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl InitBackend {
    fn draw(&self, shape: &Shape, name: &str, init: Init) -> Vec<f32> {
        let n = shape.elem_count();
        let mut stream = self.streams.stream("init", 0);
        if !matches!(init, Init::Const(_)) {
            stream = self.streams.stream(&format!("init {name}"), 0);
        }
        let mut normal = |mean: f64, std: f64| -> Vec<f32> {
            (0..n)
                .map(|_| (mean + std * Distribution::<f64>::sample(&StandardNormal, &mut stream)) as f32)
                .collect()
        };
        match init {
            Init::Const(value) => vec![value as f32; n],
            Init::Randn { mean, stdev } => normal(mean, stdev),
            Init::Kaiming { dist: candle_nn::init::NormalOrUniform::Normal, fan, non_linearity } => {
                normal(0.0, non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt())
            }
            Init::Kaiming { dist: candle_nn::init::NormalOrUniform::Uniform, fan, non_linearity } => {
                let bound = 3f64.sqrt() * non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
                uniform(&mut stream, n, -bound, bound)
            }
            Init::Uniform { lo, up } => uniform(&mut stream, n, lo, up),
        }
    }
}

fn uniform(stream: &mut crate::rng::Stream, n: usize, lo: f64, up: f64) -> Vec<f32> {
    (0..n).map(|_| (lo + (up - lo) * Distribution::<f64>::sample(&StandardUniform, stream)) as f32).collect()
}

impl SimpleBackend for InitBackend {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut vars = self.vars.lock().expect("no thread panics while it holds the lock");
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                bail!("parameter {name} is asked for as {shape:?} and as {:?}", var.shape());
            }
            return Ok(var.as_tensor().clone());
        }
        let values = Tensor::from_vec(self.draw(&shape, name, init), shape, &Device::Cpu)?;
        let var = Var::from_tensor(&values.to_dtype(dtype)?.to_device(device)?)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("parameter {name} cannot be made without its shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
