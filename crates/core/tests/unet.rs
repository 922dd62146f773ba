//! The UNet against diffusers, on fixtures that tests/fixtures/unet/make.py made.

mod common;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use common::{FIXTURES, difference, folder, largest};
use elucidate_core::params::{Params, frozen};
use elucidate_core::rng::Streams;
use elucidate_core::unet::{UNet2DConfig, UNet2DModel, load_model, notebook_init, save_model};

#[test]
fn outputs_agree_with_diffusers() -> Result<()> {
    for name in FIXTURES {
        let ours = difference(name, DType::F32).context(name)?;
        println!("{name}: {ours:.1e} from diffusers");
        assert!(ours <= 1e-4, "{name} differs by {ours:.1e}");
    }
    Ok(())
}
#[test]
fn in_double_precision_rounding_is_all_that_is_left() -> Result<()> {
    for name in FIXTURES {
        let off = difference(name, DType::F64)?;
        assert!(off <= 1e-5, "{name} differs by {off:.1e}");
    }
    Ok(())
}

#[test]
fn one_time_is_that_of_all_images() -> Result<()> {
    let (config, tensors) = load_model(&folder("unpadded"), &Device::Cpu)?;
    let model = UNet2DModel::new(&config, frozen(&tensors, &Device::Cpu))?;
    let sample = Streams::new(1).normal_images("x", 0..3, &[1, 8, 8], &Device::Cpu)?;
    let out = |timestep: Tensor| model.forward(&sample, &timestep);
    let each = out(Tensor::new(&[7.5f32, 7.5, 7.5], &Device::Cpu)?)?;
    for one in [Tensor::new(7.5f32, &Device::Cpu)?, Tensor::new(&[7.5f32], &Device::Cpu)?] {
        assert_eq!(largest(&(out(one)? - &each)?)?, 0.0);
    }
    let whole = out(Tensor::new(7i64, &Device::Cpu)?)?;
    assert_eq!(largest(&(whole - out(Tensor::new(&[7f32, 7.0, 7.0], &Device::Cpu)?)?)?)?, 0.0);
    for dims in [vec![2], vec![3, 1], vec![1, 1], vec![0]] {
        let error = out(Tensor::zeros(dims, DType::F32, &Device::Cpu)?).expect_err("it does not fit");
        assert!(error.to_string().contains("timestep has shape"), "{error}");
    }
    Ok(())
}

#[test]
fn the_lessons_unet_has_15_890_753_parameters() -> Result<()> {
    let config = UNet2DConfig::lesson();
    let (_, params) = Params::init(&Streams::new(1), &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
    assert_eq!(params.count(), 15_890_753);
    Ok(())
}

#[test]
fn a_saved_model_loads_again() -> Result<()> {
    let config = UNet2DConfig::with_blocks(&[8, 16], 1, &[1]);
    let streams = Streams::new(2);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
    notebook_init(&params, &streams)?;
    let weights = params.snapshot()?;
    let dir = tempfile::tempdir()?;
    save_model(dir.path(), &config, &weights, false)?;
    let (loaded_config, loaded) = load_model(dir.path(), &Device::Cpu)?;
    assert_eq!(loaded_config.block_out_channels, config.block_out_channels);
    for (name, tensor) in &weights {
        assert_eq!(largest(&(tensor - &loaded[name])?)?, 0.0, "{name}");
    }
    // Half precision keeps eleven bits.
    save_model(dir.path(), &config, &weights, true)?;
    let (_, halved) = load_model(dir.path(), &Device::Cpu)?;
    for (name, tensor) in &weights {
        let bound = largest(tensor)? / 1024.0;
        assert!(largest(&(tensor - &halved[name])?)? <= bound, "{name}");
    }
    UNet2DModel::new(&loaded_config, frozen(&halved, &Device::Cpu))?;
    Ok(())
}

#[test]
fn damaged_folders_are_refused_by_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let copy = |name: &str| std::fs::copy(folder("one_level").join(name), dir.path().join(name)).map(|_| ());
    let (config, weights) = ("config.json", "diffusion_pytorch_model.safetensors");
    let refusal = || match load_model(dir.path(), &Device::Cpu) {
        Ok(_) => panic!("it loads"),
        Err(error) => format!("{error:#}"),
    };
    assert!(refusal().contains(config));
    copy(config)?;
    assert!(refusal().contains(weights));
    copy(weights)?;
    load_model(dir.path(), &Device::Cpu)?;

    let whole = std::fs::read(dir.path().join(weights))?;
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(dir.path().join(weights), &whole[..length])?;
        assert!(refusal().contains(weights), "{length} bytes: {}", refusal());
    }
    // Another architecture's weights.
    std::fs::copy(folder("one_head").join(weights), dir.path().join(weights))?;
    assert!(refusal().contains("does not fit"), "{}", refusal());
    copy(weights)?;
    let text = std::fs::read_to_string(dir.path().join(config))?;
    for (from, to, named) in [
        ("\"norm_num_groups\": 3", "\"norm_num_groups\": 5", "norm_num_groups"),
        ("\"act_fn\": \"silu\"", "\"act_fn\": \"gelu\"", "act_fn"),
        (
            "\"time_embedding_type\": \"positional\"",
            "\"time_embedding_type\": \"fourier\"",
            "time_embedding_type",
        ),
        ("\"DownBlock2D\"", "\"SkipDownBlock2D\"", "SkipDownBlock2D"),
        ("\"layers_per_block\": 2", "\"layers_per_block\": 1", "unknown"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(dir.path().join(config), text.replace(from, to))?;
        assert!(refusal().contains(named), "{from}: {}", refusal());
    }
    Ok(())
}
