//! The real elucidate on runs that are made up: what it compares, refuses and draws again.

mod common;
#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result};
use common::{record, sample_row};
use elucidate_report::{
    Difference, Resamples, Role, RunRecord, SampleRow, Scale, ScoredRun, Series, TrainRow, compare_runs,
    difference_chart, draw_samples, fid_by_rho, fid_by_sampler, read_csv, save_curves, save_training,
    write_json, write_resamples,
};
use program::{elucidate, run};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// FIDs of heun and euler by seed, from 1 on.
fn rows(heun: &[f64], euler: &[f64]) -> Vec<SampleRow> {
    let of = |sampler: &str, fids: &[f64]| -> Vec<SampleRow> {
        let row = |(i, &fid): (usize, &f64)| SampleRow {
            sampler: sampler.into(),
            seed: i as u64 + 1,
            fid,
            kid: fid / 100.0,
            s_churn: None,
            fid_std_err: Some(3.0),
            ..sample_row()
        };
        fids.iter().enumerate().map(row).collect()
    };
    [of("heun", heun), of("euler", euler)].concat()
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Found {
    setting: String,
    basis: String,
    fid_difference: f64,
    fid_difference_high: Option<f64>,
    fid_differs: bool,
    kid_difference_high: Option<f64>,
    kid_differs: bool,
}

/// The rows that `compare` writes, and its output.
fn compare(dir: &Path, arguments: &[&Path], options: &[&str]) -> Result<(Vec<Found>, String)> {
    let out = dir.join("comparison");
    let mut command = elucidate();
    command.arg("compare").args(arguments).args(options).arg("--out").arg(&out);
    let output = command.assert().success().get_output().stdout.clone();
    assert!(out.with_extension("png").exists());
    Ok((read_csv(&out.with_extension("csv"))?, String::from_utf8(output)?))
}

impl Found {
    /// Half the width of the interval of FID's difference.
    fn half_width(&self) -> f64 {
        self.fid_difference_high.expect("an interval") - self.fid_difference
    }
}

#[test]
fn common_seeds_show_a_difference_that_their_spread_hides() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Seeds differ by 30, the runs by 2 ± 0.1 at each seed.
    let a = run(dir.path(), "a", &rows(&[100.0, 130.0, 160.0], &[50.0, 52.0, 51.0]))?;
    let b = run(dir.path(), "b", &rows(&[102.1, 131.9, 162.0], &[51.0, 50.0, 52.5]))?;
    let (found, text) = compare(dir.path(), &[&a, &b], &[])?;
    assert_eq!((found[0].setting.as_str(), found[0].basis.as_str()), ("heun 20", "3 seeds"));
    assert!((found[0].fid_difference - 2.0).abs() < 1e-9);
    // Student's t of two degrees of freedom has 95 % within ±4.3027.
    assert!((found[0].half_width() - 4.302_652_73 * 0.1 / 3f64.sqrt()).abs() < 1e-6);
    assert!(found[0].fid_differs);
    // 1, −2 and 1.5: 0.17 ± 4.3·1.09.
    assert!(!found[1].fid_differs);
    assert!(text.contains("2.00 ± 0.25"), "{text}");
    assert!(!text.contains("git revisions"));
    Ok(())
}

#[test]
fn two_seeds_are_hardly_evidence() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // 10 and 12: eleven standard errors from 0, which of one degree of freedom is not enough.
    let a = run(dir.path(), "a", &rows(&[100.0, 100.0], &[50.0, 50.0]))?;
    let b = run(dir.path(), "b", &rows(&[110.0, 112.0], &[60.0, 60.4]))?;
    let (found, _) = compare(dir.path(), &[&a, &b], &[])?;
    assert_eq!([found[0].fid_differs, found[1].fid_differs], [false, true]);
    assert!((found[0].half_width() - 12.706_204_7).abs() < 1e-4);
    Ok(())
}

#[test]
fn single_seeds_are_compared_by_their_own_errors_and_without_any_not_at_all() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let a = run(dir.path(), "a", &rows(&[100.0], &[50.0]))?;
    let other = rows(&[108.0], &[59.0]).into_iter().map(|row| SampleRow { seed: 7, ..row });
    let b = run(dir.path(), "b", &other.collect::<Vec<_>>())?;
    let record = RunRecord { git_revision: "other".into(), run: "b".into(), ..record() };
    write_json(&b.join("run.json"), &record)?;
    let (found, text) = compare(dir.path(), &[&a, &b], &[])?;
    // √(3² + 3²) of 98 degrees of freedom, 49 from each bootstrap: 1.9845·4.243 = 8.42.
    assert_eq!([found[0].fid_differs, found[1].fid_differs], [false, true]);
    assert!((found[0].half_width() - 1.984_467 * 18f64.sqrt()).abs() < 1e-4);
    assert_eq!(found[0].basis, "apart");
    // Over subsets of the same samples KID has an error of 0.0002, which says nothing of other samples.
    assert!(found.iter().all(|found| found.kid_difference_high.is_none() && !found.kid_differs));
    assert!(text.contains("different git revisions") && text.contains("it tells nothing"), "{text}");
    Ok(())
}

#[test]
fn pairs_of_resamples_tell_a_difference_on_one_seed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = rows(&[100.0], &[101.0]);
    let folder = run(dir.path(), "a", &rows)?;
    // Resamples scatter by far more than 1, both settings' alike but for ±0.1.
    let scatter = |k: usize| 20.0 * ((k * 7919) % 100) as f32 / 100.0;
    let drawn = |less: f32| Resamples {
        fid: (0..100).map(|k| 110.0 + scatter(k) - less * if k % 2 == 0 { 0.9 } else { 1.1 }).collect(),
        kid: (0..100).map(|k| scatter(k) - less * (k % 2) as f32).collect(),
    };
    let with = |row: &SampleRow, less| SampleRow { resamples: Some(drawn(less)), ..row.clone() };
    write_resamples(&folder, &[with(&rows[0], 1.0), with(&rows[1], 0.0)])?;
    let (found, text) = compare(dir.path(), &[&folder], &[])?;
    assert_eq!(found[0].basis, "pairs, 1 seed");
    assert!(found[0].fid_differs);
    // Half of them 0.9, half 1.1: 0.1005 with 99 degrees of freedom.
    assert!((found[0].half_width() - 1.984_217 * 0.100_504).abs() < 1e-3, "{}", found[0].half_width());
    // KID differs by 0.01 ± 1.
    assert!(found[0].kid_difference_high.is_some() && !found[0].kid_differs);
    assert!(text.contains("began with the same noise"), "{text}");
    // Damage is told of by the file's name.
    fs::write(folder.join("resamples.json"), "{")?;
    refuses(&[&folder], &[], "resamples.json is damaged");
    Ok(())
}

#[test]
fn errors_are_held_against_what_seeds_scatter_by() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // A standard deviation of 3, and of 6, where each row's own error is 3; of two degrees of freedom χ² has its quantiles of 2.5 and
    // 97.5 % at 0.0506 and 7.378.
    let folder = run(dir.path(), "a", &rows(&[97.0, 100.0, 103.0], &[206.0, 194.0, 200.0]))?;
    let check = |folder: &Path| elucidate().arg("check-errors").arg(folder).assert();
    let text = String::from_utf8(check(&folder).success().get_output().stdout.clone())?;
    let cells = |name: &str| text.lines().find(|line| line.contains(name)).map(str::to_string);
    let heun = cells("heun 20 ").context("heun")?;
    assert!(heun.contains("1.00 (0.52 to 6.28)"), "{text}");
    assert!(text.contains("2.00 (1.04 to 12.57)"), "{text}");
    // Nothing was drawn in pairs.
    assert!(cells("paired").context("the difference")?.contains("| -"), "{text}");
    check(&run(dir.path(), "b", &rows(&[97.0], &[100.0]))?).failure();
    Ok(())
}

#[test]
fn notes_say_what_the_errors_rest_on_and_nothing_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = rows(&[100.0, 104.0], &[101.0, 103.0]);
    let folder = run(dir.path(), "a", &rows)?;
    let (_, text) = compare(dir.path(), &[&folder], &[])?;
    assert!(text.contains("note: seeds:") && !text.contains("note: pairs:"), "{text}");
    let drawn = |row: &SampleRow| {
        let values: Vec<f32> = (0..10).map(|k| row.fid as f32 + (k % 3) as f32).collect();
        SampleRow { resamples: Some(Resamples { fid: values.clone(), kid: values }), ..row.clone() }
    };
    write_resamples(&folder, &rows.iter().map(drawn).collect::<Vec<_>>())?;
    let (found, text) = compare(dir.path(), &[&folder], &[])?;
    assert_eq!(found[0].basis, "pairs, 2 seeds");
    assert!(text.contains("note: pairs:") && !text.contains("note: seeds:"), "{text}");
    Ok(())
}

#[test]
fn settings_of_one_run_are_compared_with_one_of_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let a = run(dir.path(), "a", &rows(&[100.0, 130.0], &[90.0, 121.0]))?;
    let (found, _) = compare(dir.path(), &[&a], &[])?;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].setting.as_str(), found[0].fid_difference), ("euler 20", -9.5));
    let (found, _) = compare(dir.path(), &[&a], &["--against", "euler 20"])?;
    assert_eq!((found[0].setting.as_str(), found[0].fid_difference), ("heun 20", 9.5));
    refuses(&[&a], &["--against", "lms 20"], "has no setting \"lms 20\": it has heun 20; euler 20");
    Ok(())
}

#[test]
fn runs_of_one_name_are_told_apart_by_where_they_are() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = rows(&[100.0, 101.0], &[90.0, 91.5]);
    let a = run(&dir.path().join("here"), "run", &rows)?;
    let b = run(&dir.path().join("there"), "run", &rows)?;
    let (_, text) = compare(dir.path(), &[&a, &b], &[])?;
    assert!(text.contains("compared with 23_karras/run (here)") && text.contains("23_karras/run (there)"));
    let c = dir.path().join("there/23_karras/copy");
    fs::create_dir_all(&c)?;
    for file in ["run.json", "samples.csv"] {
        fs::copy(b.join(file), c.join(file))?;
    }
    let (_, text) = compare(dir.path(), &[&b, &c], &[])?;
    assert!(text.contains("23_karras/run (run)") && text.contains("23_karras/run (copy)"), "{text}");
    refuses(&[&a, &a], &[], "is given twice");
    Ok(())
}

#[test]
fn settings_that_some_runs_lack_are_told_of_and_real_images_alone_are_no_comparison() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let real = SampleRow { sampler: "real".into(), ..sample_row() };
    let all = rows(&[100.0, 101.0], &[90.0, 91.5]);
    let heun: Vec<SampleRow> = all[..2].iter().cloned().chain([real.clone()]).collect();
    let euler: Vec<SampleRow> = all[2..].iter().cloned().chain([real]).collect();
    let (a, b) = (run(dir.path(), "a", &all)?, run(dir.path(), "b", &heun)?);
    let (_, text) = compare(dir.path(), &[&a, &b], &[])?;
    assert!(text.contains("euler 20, 2048 samples: only in 23_karras/a"), "{text}");
    let c = run(dir.path(), "c", &euler)?;
    refuses(&[&b, &c], &[], "have no setting in common but real images");
    Ok(())
}

#[test]
fn tables_that_pandas_wrote_again_are_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let a = run(dir.path(), "a", &rows(&[100.0, 101.0], &[90.0, 91.5]))?;
    let before = compare(dir.path(), &[&a], &[])?.1;
    // Whole numbers of columns with gaps have a fraction; somebody took notes.
    let table = a.join("samples.csv");
    let text = fs::read_to_string(&table)?;
    let again: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(i, line)| match i {
            0 => format!("{line},notes"),
            _ => format!("{},good one", line.replacen(",20,39,", ",20.0,39.0,", 1)),
        })
        .collect();
    assert!(again[1].contains(",20.0,39.0,"));
    fs::write(&table, again.join("\n"))?;
    let output = elucidate().arg("compare").arg(&a).arg("--out").arg(dir.path().join("c")).assert().success();
    let (stdout, stderr) = (&output.get_output().stdout, &output.get_output().stderr);
    let of_c = String::from_utf8_lossy(stdout).replace("/c.", "/comparison.");
    assert_eq!(of_c, before);
    assert!(String::from_utf8_lossy(stderr).contains("samples.csv has columns that are passed over: notes"));
    fs::write(&table, again.join("\n").replacen(",20.0,", ",twenty,", 1))?;
    refuses(&[&a], &[], "line 2, column steps");
    // Lines as Windows and Python's csv end them.
    for (end, text) in [("\n", again.join("\n")), ("\r\n", again.join("\r\n"))] {
        let wrong = text.replacen(",20.0,", ",20,", 1).replacen(",20.0,", ",twenty,", 1);
        fs::write(&table, wrong)?;
        refuses(&[&a], &[], "line 3, column steps");
        fs::write(&table, text)?;
        let succeeds = elucidate().arg("compare").arg(&a).arg("--out").arg(dir.path().join("d")).output()?;
        assert!(succeeds.status.success(), "lines that end with {end:?}");
    }
    Ok(())
}

#[test]
fn rows_of_one_file_are_held_against_each_other() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut all = rows(&[100.0, 101.0], &[90.0, 91.5]);
    all[3].n_real = 5000;
    let a = run(dir.path(), "a", &all)?;
    refuses(&[&a], &[], "row 4 differs from the first in n_real (10000 and 5000)");
    Ok(())
}

#[test]
fn a_table_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let a = run(dir.path(), "a", &rows(&[100.0, 101.0], &[90.0, 91.5]))?;
    let shell = |redirection: &str| {
        let mut command = std::process::Command::new("sh");
        let line = format!(
            "'{}' compare '{}' --out '{}' {redirection}",
            env!("CARGO_BIN_EXE_elucidate"),
            a.display(),
            dir.path().join("c").display()
        );
        command.args(["-c", &line]).output()
    };
    let full = shell("> /dev/full")?;
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).starts_with("error: cannot write to stdout"));
    assert!(shell(">&-")?.status.code().is_some_and(|code| code <= 1));
    // Nobody reads the error: no panic, which would end with 101.
    assert_eq!(shell("--against nothing 2>&-")?.status.code(), Some(1));
    let with_backtrace = shell("--against nothing 2>&1; RUST_BACKTRACE=1; export RUST_BACKTRACE")?;
    let mut verbose = elucidate();
    verbose.env("RUST_BACKTRACE", "1").arg("compare").arg(&a).args(["--against", "nothing"]);
    verbose.arg("--out").arg(dir.path().join("c"));
    let verbose = verbose.assert().failure().get_output().stderr.clone();
    assert_eq!(String::from_utf8_lossy(&with_backtrace.stdout), String::from_utf8_lossy(&verbose));
    Ok(())
}

/// `compare` ends with one line that says `what`.
fn refuses(arguments: &[&Path], options: &[&str], what: &str) {
    let output = elucidate().arg("compare").args(arguments).args(options).assert().failure();
    let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(text.lines().count() == 1 && text.starts_with("error: ") && text.contains(what), "{text}");
}

#[test]
fn what_cannot_be_compared_is_refused_by_the_name_of_its_column() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let base = rows(&[100.0, 101.0], &[90.0, 91.0]);
    let a = run(dir.path(), "a", &base)?;
    let with = |name: &str, change: fn(SampleRow) -> SampleRow| -> Result<PathBuf> {
        run(dir.path(), name, &base.iter().cloned().map(change).collect::<Vec<_>>())
    };
    let classifier = with("classifier", |row| SampleRow { classifier_sha256: "other".into(), ..row })?;
    let data = with("data", |row| SampleRow { data_sha256: "other".into(), ..row })?;
    let n_real = with("n_real", |row| SampleRow { n_real: 5000, ..row })?;
    let n = with("n", |row| SampleRow { n: 512, ..row })?;
    let steps = with("steps", |row| SampleRow { steps: Some(7), ..row })?;
    refuses(&[&a, &classifier], &[], "differ in classifier_sha256 (b and other)");
    refuses(&[&a, &data], &[], "differ in data_sha256 (a and other)");
    refuses(&[&a, &n_real], &[], "differ in n_real (10000 and 5000)");
    refuses(&[&a, &n], &[], "heun 20 differs in n (2048 and 512 samples)");
    refuses(&[&a, &steps], &[], "have no setting in common");
    // Where a setting has rows of several n, those of a common n are compared.
    let fewer = base.iter().cloned().map(|row| SampleRow { n: 512, ..row });
    let both = run(dir.path(), "both", &base.iter().cloned().chain(fewer).collect::<Vec<_>>())?;
    let (found, _) = compare(dir.path(), &[&a, &both], &[])?;
    assert_eq!(found.len(), 2);
    refuses(&[&a, &dir.path().join("none")], &[], "run.json");
    // A run that has sampled nothing yet.
    let empty = run(dir.path(), "empty", &base)?;
    let table = fs::read_to_string(empty.join("samples.csv"))?;
    fs::write(empty.join("samples.csv"), table.lines().next().unwrap_or_default())?;
    refuses(&[&a, &empty], &[], "23_karras/empty has no rows in its samples.csv");
    refuses(&[&empty], &["--against", "heun 20"], "23_karras/empty has no rows of samples");
    let density = with("density", |row| SampleRow { density: Some(f64::NAN), ..row })?;
    refuses(&[&a, &density], &[], "row 1: density is NaN");
    let pictures = elucidate().args(["plot-samplers"]).args([&a, &data]).assert().failure();
    assert!(String::from_utf8_lossy(&pictures.get_output().stderr).contains("data_sha256"));
    Ok(())
}

/// The bytes of every PNG and SVG in a folder.
fn pictures(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut pictures = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "png" || extension == "svg") {
            pictures.insert(path.clone(), fs::read(path)?);
        }
    }
    Ok(pictures)
}

#[test]
fn every_chart_comes_back_as_it_was() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let results = dir.path().join("results");
    let mut table = rows(&[100.0, 101.5], &[90.25, 0.1 + 0.2]);
    let swept = |rho| SampleRow { rho: Some(rho), n: 1024, classes: None, ..table[0].clone() };
    let swept = [swept(1.0), swept(7.0)];
    table.iter_mut().for_each(|row| row.classes = Some("1-2-3-4-5-6-7-8-9-10".into()));
    table.extend(swept);
    let folder = run(&results, "a", &table)?;
    let histogram = Series::line("bars", vec![(0.1, 1.0 / 3.0), (0.3, 0.7)]);
    let series = [
        Series { role: Role::Bars, ..histogram },
        Series::with_half_widths("line", vec![(0.1, 1e-17), (0.3, f64::MAX.sqrt().recip())], vec![0.1, 0.2]),
    ];
    save_curves(&folder, "training_sigma", &series)?;
    save_curves(&folder, "numbers_without_a_chart", &series)?;
    let epoch = TrainRow {
        epoch: 1,
        step: 10,
        images: 320,
        lr: 0.1,
        train_loss: 0.3,
        test_loss: 0.25,
        images_per_second: 800.0,
        seconds: 1.0,
    };
    save_training(&folder, "", &[epoch.clone(), TrainRow { epoch: 2, train_loss: 0.2, ..epoch.clone() }])?;
    save_training(&folder, "_alpha_bar", &[epoch])?;
    draw_samples(&folder)?;
    let before = pictures(&folder)?;
    assert_eq!(before.len(), 12);
    for path in before.keys() {
        fs::remove_file(path)?;
    }
    elucidate().arg("plots").current_dir(dir.path()).assert().success();
    assert!(pictures(&folder)? == before, "other bytes");
    // A damaged CSV is named.
    fs::write(folder.join("train.csv"), "epoch,step\n1,x\n")?;
    let output = elucidate().arg("plots").arg(&folder).assert().failure();
    assert!(String::from_utf8_lossy(&output.get_output().stderr).contains("train.csv"));
    Ok(())
}

#[test]
fn a_dot_in_the_name_of_a_comparison_is_kept() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let a = run(dir.path(), "a", &rows(&[100.0, 130.0], &[90.0, 121.0]))?;
    for name in ["heun_churn_0.5", "heun_churn_0.25.csv"] {
        let out = dir.path().join("out").join(name);
        fs::create_dir_all(dir.path().join("out"))?;
        elucidate().arg("compare").arg(&a).arg("--out").arg(&out).assert().success();
    }
    let mut names = vec![];
    for entry in fs::read_dir(dir.path().join("out"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let files = |name: &str| ["csv", "png", "svg"].map(|ending| format!("{name}.{ending}"));
    let expected = [files("heun_churn_0.25"), files("heun_churn_0.5")].concat();
    assert_eq!(names, expected);
    refuses(&[&a], &["--out", ".."], "--out .. names no file");
    Ok(())
}

#[test]
fn pictures_are_of_the_kind_that_their_names_say() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let swept = |rho, fid| SampleRow { rho: Some(rho), fid, n: 1024, ..sample_row() };
    let table = [rows(&[100.0], &[90.0]), vec![swept(1.0, 300.0), swept(7.0, 100.0)]].concat();
    let a = run(dir.path(), "a", &table)?;
    let draw = |command: &str, name: &str| {
        elucidate().arg(command).arg(&a).arg("--out").arg(dir.path().join(name)).assert()
    };
    for command in ["plot-rho", "plot-samplers"] {
        draw(command, "x.svg").success();
        let svg = fs::read_to_string(dir.path().join("x.svg"))?;
        assert!(
            svg.starts_with("<svg ") && svg.contains(" viewBox=\"0 0 960 ") && svg.contains(">\nFID"),
            "{svg}"
        );
        assert!(
            svg.contains("font-family=\"DejaVu Sans, Verdana, sans-serif\"")
                && svg.trim_end().ends_with("</svg>")
        );
        draw(command, "x.png").success();
        assert!(fs::read(dir.path().join("x.png"))?.starts_with(b"\x89PNG"));
        for name in ["x.jpg", "x", "x.svg.gz"] {
            let output = draw(command, name).failure().get_output().stderr.clone();
            let text = String::from_utf8(output)?;
            assert!(text.lines().count() == 1 && text.contains(".png or .svg"), "{text}");
            assert!(!dir.path().join(name).exists());
        }
    }
    Ok(())
}

/// Settings of one label that differ in an option, and one more.
fn of_one_label() -> Vec<SampleRow> {
    let row = |setting: &str, label: &str, fid| SampleRow {
        setting: Some(setting.into()),
        label: Some(label.into()),
        fid,
        classes: Some("1-2-3-4-5-6-7-8-9-10".into()),
        ..sample_row()
    };
    vec![
        row("heun steps=20 clamp=1 rho=7", "heun 20", 10.0),
        row("heun steps=20 clamp=2 rho=7", "heun 20", 20.0),
        row("euler steps=20 rho=7", "euler 20", 30.0),
    ]
}

#[test]
fn settings_of_one_label_are_told_apart_and_all_are_drawn() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (a, b) = (run(dir.path(), "a", &of_one_label())?, run(dir.path(), "b", &of_one_label())?);
    let names = ["heun 20, clamp=1", "heun 20, clamp=2", "euler 20"];
    let runs = [ScoredRun::read(&a)?, ScoredRun::read(&b)?];
    let chart = fid_by_sampler(&runs).context("a chart")?;
    assert_eq!(chart.rows, names);
    let values =
        |set: usize| -> Vec<_> { chart.sets[set].dots.iter().flatten().map(|dot| dot.value).collect() };
    assert_eq!([values(0), values(1)], [[10.0, 20.0, 30.0]; 2]);
    let found: Vec<String> = compare_runs(&runs)?.into_iter().map(|d| d.setting).collect();
    assert_eq!(found, names);
    let (found, text) = compare(dir.path(), &[&a], &["--against", "heun 20, clamp=2"])?;
    let found: Vec<_> = found.iter().map(|d| (d.setting.as_str(), d.fid_difference)).collect();
    assert_eq!(found, [(names[0], -10.0), (names[2], 10.0)]);
    assert!(text.contains("compared with heun 20, clamp=2"), "{text}");
    refuses(&[&a], &["--against", "heun 20"], "it has heun 20, clamp=1; heun 20, clamp=2; euler 20");
    Ok(())
}

#[test]
fn runs_of_one_name_are_all_drawn() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let a = run(&dir.path().join("first"), "a", &rows(&[100.0], &[90.0]))?;
    let b = run(&dir.path().join("second"), "a", &rows(&[101.0], &[92.0]))?;
    let c = run(&dir.path().join("third"), "a", &rows(&[102.0], &[94.0]))?;
    let (found, text) = compare(dir.path(), &[&a, &b, &c], &[])?;
    assert_eq!(found.iter().map(|d| d.fid_difference).collect::<Vec<_>>(), [1.0, 2.0, 2.0, 4.0]);
    for name in
        ["23_karras/a (first):", "23_karras/a (second):", "| 23_karras/a (second)", "| 23_karras/a (third)"]
    {
        assert!(text.contains(name), "no {name} in {text}");
    }
    // Nor does the chart of rows that agree in every name leave one out.
    let runs = [ScoredRun::read(&a)?, ScoredRun::read(&b)?, ScoredRun::read(&c)?];
    let differences: Vec<Difference> = compare_runs(&runs)?;
    let chart = difference_chart(&differences);
    let dots = chart.sets.iter().flat_map(|set| set.dots.iter().flatten()).map(|dot| dot.value);
    assert_eq!((dots.collect::<Vec<_>>(), chart.rows.len()), (vec![1.0, 2.0, 2.0, 4.0], 4));
    Ok(())
}

#[test]
fn rho_is_told_by_paired_differences_from_rho_7() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let row = |steps, rho, seed, fid| SampleRow {
        steps: Some(steps),
        rho: Some(rho),
        seed,
        fid,
        fid_std_err: Some(50.0),
        s_churn: None,
        ..sample_row()
    };
    let mut rows = vec![];
    for (seed, fid) in [(1, 100.0), (2, 200.0)] {
        rows.extend([row(20, 7.0, seed, fid), row(20, 5.0, seed, fid - 3.0)]);
        // 300 and 302 more: 301 ± 1.
        rows.push(row(20, 1.0, seed, fid + 298.0 + 2.0 * seed as f64));
        // ρ 6 is the nearest to 7.
        rows.extend([row(50, 3.0, seed, fid + 1.0), row(50, 6.0, seed, fid)]);
    }
    let folder = run(dir.path(), "a", &rows)?;
    let chart = fid_by_rho(&[ScoredRun::read(&folder)?]).context("a chart")?;
    assert_eq!(chart.y_scale, Scale::SymLog);
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["heun 20, 2048 samples", "heun 50, 2048 samples, from ρ 6"]);
    assert_eq!(chart.series[0].points, [(1.0, 301.0), (5.0, -3.0), (7.0, 0.0)]);
    assert_eq!(chart.series[1].points, [(3.0, 1.0), (6.0, 0.0)]);
    assert_eq!(chart.title, "FID minus that at ρ 7 or the ρ nearest to it");
    // Student's t of one degree of freedom, not the errors of both, which are 50 each.
    let widths = &chart.series[0].half_widths;
    assert!(
        (widths[0] - 12.706_204_7).abs() < 1e-4 && widths[1].abs() < 1e-9 && widths[2].is_nan(),
        "{widths:?}"
    );
    assert!(chart.x_label.contains("95 %"), "{}", chart.x_label);
    let single =
        [row(20, 7.0, 1, 5.0), row(20, 5.0, 1, 6.0)].map(|row| SampleRow { fid_std_err: None, ..row });
    let single = run(dir.path(), "single", &single)?;
    let unknown = fid_by_rho(&[ScoredRun::read(&single)?]).context("a chart")?;
    assert_eq!(
        (unknown.x_label.as_str(), unknown.title.as_str()),
        ("ρ (intervals are not known)", "FID minus that at ρ 7: heun 20, 2048 samples")
    );
    // Of several runs each has its lines, of one name too.
    let other = run(&dir.path().join("other"), "a", &rows)?;
    let runs = [ScoredRun::read(&folder)?, ScoredRun::read(&other)?];
    let chart = fid_by_rho(&runs).context("a chart")?;
    assert_eq!(chart.series.iter().map(|series| series.points.len()).collect::<Vec<_>>(), [3, 2, 3, 2]);
    Ok(())
}

#[test]
fn runs_are_drawn_in_one_picture() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let swept = |rho, fid| SampleRow { rho: Some(rho), fid, n: 1024, ..sample_row() };
    let table = [rows(&[100.0], &[90.0]), vec![swept(1.0, 300.0), swept(7.0, 100.0)]].concat();
    let (a, b) = (run(dir.path(), "a", &table)?, run(dir.path(), "b", &table)?);
    for command in ["plot-rho", "plot-samplers"] {
        let out = dir.path().join(format!("{command}.png"));
        elucidate().arg(command).args([&a, &b]).arg("--out").arg(&out).assert().success();
        assert!(out.exists());
    }
    let none = run(dir.path(), "c", &rows(&[100.0], &[90.0]))?;
    let output = elucidate().arg("plot-rho").arg(&none).assert().failure();
    let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(text.contains("ρ"), "{text}");
    fs::metadata(dir.path().join("plot-rho.png")).context("the picture")?;
    Ok(())
}
