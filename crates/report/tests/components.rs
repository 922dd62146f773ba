//! Figures over trainings: the components of their variance, and means of several groups.

mod common;
#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result};
use common::sample_row;
use elucidate_report::{Components, Estimate, SampleRow, read_csv, write_csv};
use program::{elucidate, run};
use std::path::{Path, PathBuf};

/// A training of `name`, sampled with seeds 1 and on: FID of each sampler by seed.
fn training(dir: &Path, name: &str, fids: &[(&str, Vec<f64>)]) -> Result<PathBuf> {
    let row = |sampler: &str, i: usize, fid: f64| SampleRow {
        sampler: sampler.into(),
        seed: i as u64 + 1,
        fid,
        s_churn: None,
        checkpoint_sha256: name.into(),
        ..sample_row()
    };
    let of = |(sampler, fids): &(&str, Vec<f64>)| -> Vec<SampleRow> {
        fids.iter().enumerate().map(|(i, fid)| row(sampler, i, *fid)).collect()
    };
    run(dir, name, &fids.iter().flat_map(of).collect::<Vec<_>>())
}

fn components(dir: &Path, runs: &[PathBuf]) -> Result<Vec<Components>> {
    let out = dir.join("components.csv");
    elucidate().arg("components").args(runs).arg("--out").arg(&out).assert().success();
    read_csv(&out)
}

#[test]
fn components_of_variance_are_those_of_the_closed_form() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Effects of trainings −6, 0, 6 and of seeds −1, 1, and a rest whose mean over seeds is 0 and over trainings ±1/6.
    let rest = [[0.5, -0.5], [-0.5, 0.5], [0.5, -0.5]];
    let mut runs = vec![];
    for (t, effect) in [-6.0, 0.0, 6.0].into_iter().enumerate() {
        let fid = |(seed, rest): (f64, f64)| 100.0 + effect + seed + rest;
        let heun: Vec<f64> = [-1.0, 1.0].into_iter().zip(rest[t]).map(fid).collect();
        // The others have 3, 0.3 and 0.03 more, and on the trainings another 0.1, −0.2 and 0.1; the last is heun under a second name.
        let more = |mean: f64| heun.iter().map(|fid| fid + mean + [0.1, -0.2, 0.1][t]).collect();
        let all = [
            ("heun", heun.clone()),
            ("euler", more(3.0)),
            ("lms", more(0.3)),
            ("dpm_2", more(0.03)),
            ("same", heun.clone()),
        ];
        runs.push(training(dir.path(), &format!("training-{t}"), &all)?);
    }
    let found = components(dir.path(), &runs)?;
    let heun = &found[0];
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs().max(1.0);
    let rest_square = 4.0 / 3.0 / 2.0;
    assert!(close(heun.rest_std.powi(2), rest_square), "{heun:?}");
    assert!(close(heun.training_std.powi(2), (72.0 - rest_square) / 2.0), "{heun:?}");
    // The seeds' means are ∓1 ± 1/6.
    let of_seeds = 3.0 * 2.0 * (1.0 - 1.0 / 6.0f64).powi(2);
    assert!(close(heun.sampling_std.powi(2), (of_seeds - rest_square) / 3.0), "{heun:?}");
    // By SciPy's χ² and F: mean squares 72 and 2/3 of two degrees of freedom each.
    for (end, expected) in [(heun.training_std_low, 3.364131724), (heun.training_std_high, 37.702742558)] {
        assert!((end / expected - 1.0).abs() < 1e-6, "{heun:?}");
    }

    // Nothing but trainings scatters, by √0.03, so Student's t has two degrees of freedom. Of four settings that are compared, Holm's
    // correction takes the smallest p four times, the next three times, the next twice.
    let scatter = (0.03f64 / 3.0).sqrt();
    for (row, mean, times) in [(&found[1], 3.0, 4.0), (&found[2], 0.3, 3.0), (&found[3], 0.03, 2.0)] {
        let t = mean / scatter;
        let p = 1.0 - t / (t * t + 2.0).sqrt();
        assert!(row.difference.is_some_and(|difference| close(difference, mean)), "{row:?}");
        assert!(
            row.difference_high.is_some_and(|high| close(high, mean + 4.302_652_729_911 * scatter)),
            "{row:?}"
        );
        assert!(row.p.is_some_and(|found| (found - p).abs() < 1e-9), "{row:?}");
        assert!(row.p_holm.is_some_and(|found| (found - (times * p).min(1.0)).abs() < 1e-9), "{row:?}");
    }
    assert_eq!((found[4].difference, found[4].p, found[4].p_holm), (Some(0.0), Some(1.0), Some(1.0)));
    Ok(())
}

#[test]
fn what_seeds_do_to_a_difference_is_in_its_interval() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The difference is 1, 2 or 3 by the seed and hardly depends on the training.
    let of = |t: f64| [("heun", vec![10.0 + t; 3]), ("euler", vec![11.0 + t, 12.0 + t, 13.0 + 1.01 * t])];
    let trainings = [0.0, 1.0, 2.0, 3.0];
    let runs: Vec<PathBuf> =
        trainings.iter().map(|t| training(dir.path(), &format!("t{t}"), &of(*t))).collect::<Result<_>>()?;
    let euler = &components(dir.path(), &runs)?[1];
    // Over seeds alone it is 2 ± 4.30·1/√3.
    let width = euler.difference_high.context("an interval")? - euler.difference.context("a difference")?;
    assert!((width / (4.3027 / 3f64.sqrt()) - 1.0).abs() < 0.05, "{euler:?}");
    Ok(())
}

#[test]
fn components_of_what_are_not_trainings_of_one_kind_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fids = |seeds: usize| [("heun", (0..seeds).map(|seed| seed as f64).collect::<Vec<_>>())];
    let refused = |runs: &[&PathBuf], what: &str| {
        let output = elucidate().arg("components").args(runs).assert().failure().get_output().stderr.clone();
        let text = String::from_utf8_lossy(&output).into_owned();
        assert!(text.starts_with("error: ") && text.lines().count() == 1 && text.contains(what), "{text}");
    };
    let a = training(dir.path(), "a", &fids(2))?;
    let b = training(dir.path(), "b", &fids(2))?;
    refused(&[&a], "two trainings or more");
    refused(&[&a, &training(dir.path(), "c", &fids(3))?], "c has heun");
    let one = [training(dir.path(), "d", &fids(1))?, training(dir.path(), "e", &fids(1))?];
    refused(&[&one[0], &one[1]], "d has one seed of heun");
    let mut rows: Vec<SampleRow> = read_csv(&b.join("samples.csv"))?;
    let mut with = |change: fn(&mut SampleRow), what: &str| -> Result<()> {
        rows.iter_mut().for_each(change);
        write_csv(&b.join("samples.csv"), &rows)?;
        refused(&[&a, &b], what);
        Ok(())
    };
    with(|row| row.epochs = 99, "differ in epochs (")?;
    with(|row| (row.epochs, row.checkpoint_sha256) = (sample_row().epochs, "a".into()), "are of one model")?;
    Ok(())
}

#[test]
fn means_of_groups_have_the_scatter_within_all_of_them() -> Result<()> {
    // Squares of 2, 8 and 0 within them, of 1, 1 and 0 degrees of freedom: a variance of 5.
    let [a, b, one] = &Estimate::of_groups(&[vec![1.0, 3.0], vec![10.0, 14.0], vec![7.0]])[..] else {
        anyhow::bail!("three means");
    };
    assert_eq!((a.mean, b.mean, one.mean), (2.0, 12.0, 7.0));
    let close = |found: Option<(f64, f64)>, std_err: f64| {
        found.is_some_and(|(error, freedom)| (error - std_err).abs() < 1e-12 && freedom == 2.0)
    };
    assert!(close(a.error, 2.5f64.sqrt()) && close(b.error, 2.5f64.sqrt()) && close(one.error, 5f64.sqrt()));
    // Of one group it is what Student's t says of it alone, and of single values nothing is known.
    let values = vec![1.0, 4.0, 2.5];
    let (alone, group) = (Estimate::of(&values), Estimate::of_groups(&[values])[0]);
    assert!(close(group.error, alone.error.context("an error")?.0) && group.mean == alone.mean);
    assert!(Estimate::of_groups(&[vec![1.0], vec![2.0]]).iter().all(|group| group.error.is_none()));
    Ok(())
}
