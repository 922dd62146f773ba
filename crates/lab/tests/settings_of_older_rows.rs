//! Rows of older schemas have the settings and labels that the samplers' crate gives today.

use elucidate_report::SampleRow;
use elucidate_samplers::Setting;
use elucidate_schedules::{NoiseInput, Preconditioning};

#[test]
fn older_rows_are_keyed_and_called_as_todays() {
    let row = |sampler: &str| SampleRow {
        sampler: sampler.into(),
        steps: Some(20),
        rho: Some(7.0),
        sigma_min: Some(0.01),
        sigma_max: Some(80.0),
        ..SampleRow::default()
    };
    let all = [
        (row("euler"), "euler steps=20"),
        (SampleRow { eta: Some(0.5), ..row("euler_ancestral") }, "euler_ancestral steps=20 eta=0.5"),
        (SampleRow { s_churn: Some(0.0), ..row("heun") }, "heun steps=20"),
        (SampleRow { s_churn: Some(0.5), rho: Some(3.0), ..row("heun") }, "heun steps=20 s_churn=0.5 rho=3"),
        (SampleRow { sigma_max: Some(10.0), ..row("heun") }, "heun steps=20 sigma_max=10"),
        (SampleRow { order: Some(4), ..row("lms") }, "lms steps=20"),
        (SampleRow { order: Some(2), ..row("lms") }, "lms steps=20 order=2"),
        (
            SampleRow { eta: Some(0.5), rho: None, sigma_min: None, sigma_max: None, ..row("ddim") },
            "ddim steps=20 eta=0.5 clamp=3 floor=0.01 scale=0.5 spacing=ddim",
        ),
    ];
    for (older, text) in all {
        let today = Setting::parse(text, &Preconditioning::edm(0.66, NoiseInput::Sigma)).expect("a setting");
        assert_eq!(older.setting(), today.text());
        assert_eq!(older.label(), today.label());
        let newer =
            SampleRow { setting: Some(today.text()), label: Some(today.label()), ..SampleRow::default() };
        assert_eq!(newer.setting(), older.setting());
    }
}
