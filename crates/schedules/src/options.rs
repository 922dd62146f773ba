//! What has options by name: ways to space noise levels here, samplers in `elucidate-samplers`.

/// One option: of a way to space noise levels, of a sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionInfo {
    /// Its name in texts and on command lines.
    pub name: &'static str,
    /// What it is, a line.
    pub help: &'static str,
    /// What it may be.
    pub domain: Domain,
}

/// What an option may be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Domain {
    /// A number from `.0` to `.1`, both included; ∞ only where the latter is.
    Number(f64, f64),
    /// A whole number from `.0` to `.1`, both included.
    Whole(u64, u64),
    /// One of these names.
    Names(&'static [&'static str]),
    /// Numbers from `.0` to `.1`.
    List(f64, f64),
}

impl Domain {
    /// Whether it holds `number`, by itself or in a list; of names, none.
    pub fn holds(&self, number: f64) -> bool {
        match *self {
            Self::Number(from, to) | Self::List(from, to) => (from..=to).contains(&number),
            Self::Whole(from, to) => number.fract() == 0.0 && (from as f64..=to as f64).contains(&number),
            Self::Names(_) => false,
        }
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Number(from, to) if to.is_infinite() => write!(f, "{from} or more"),
            Self::Number(from, to) => write!(f, "{from} to {to}"),
            Self::Whole(from, to) => write!(f, "a whole number, {from} to {to}"),
            Self::Names(names) => write!(f, "{}", names.join(" or ")),
            Self::List(from, to) => write!(f, "numbers from {from} to {to}, as in 80,10,1"),
        }
    }
}

/// Defines a struct of options with their help, defaults and ranges, and its table `OPTIONS` of [`OptionInfo`].
#[doc(hidden)]
#[macro_export]
macro_rules! options {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $( $(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr, $domain:expr; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $name {
            pub(crate) const OPTIONS: &'static [$crate::OptionInfo] = &[
                $( $crate::OptionInfo {
                    name: stringify!($field),
                    help: concat!($($help),+),
                    domain: $domain,
                }, )*
            ];
        }
    };
}
