// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Axes: where a value lies between their ends, and what is written at them.

/// An axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From one power of ten to another.
    Decades {
        /// The exponent at the origin.
        first: i32,
        /// The exponent at the end.
        last: i32,
    },
    /// From zero by even steps.
    Even {
        /// A step.
        step: f64,
        /// How many there are.
        count: u32,
    },
}

impl Scale {
    /// Returns the powers of ten around the values; those that have no logarithm are passed over.
    pub fn decades(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        if most == 0.0 {
            return Self::Decades { first: 0, last: 1 };
        }
        // The shortest bar is to be seen.
        let first = whole((least * 0.9).log10().floor());
        let last = whole(most.log10().ceil()).max(first + 1);
        Self::Decades { first, last }
    }

    /// Returns steps of 1, 2 or 5 times a power of ten, up to the largest of the values.
    pub fn even(values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        if most == 0.0 {
            return Self::Even {
                step: 1.0,
                count: 1,
            };
        }
        let power = 10_f64.powf((most / 4.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let fits = |step: &f64| most / step <= 5.0;
        let step = steps.into_iter().find(fits).unwrap_or(power * 10.0);
        let count = whole((most / step).ceil()).unsigned_abs().max(1);
        Self::Even { step, count }
    }

    /// Returns where a value lies, 0 at the origin and 1 at the end; what lies outside is at the nearer of the two.
    pub fn at(&self, value: f64) -> f64 {
        let at = match *self {
            Self::Decades { first, last } => {
                (value.max(f64::MIN_POSITIVE).log10() - f64::from(first)) / f64::from(last - first)
            }
            Self::Even { step, count } => value / (step * f64::from(count)),
        };
        if at.is_nan() { 0.0 } else { at.clamp(0.0, 1.0) }
    }

    /// Returns the values at which something is written.
    pub fn marks(&self) -> Vec<f64> {
        match *self {
            Self::Decades { first, last } => (first..=last).map(|it| 10_f64.powi(it)).collect(),
            Self::Even { step, count } => (0..=count).map(|it| step * f64::from(it)).collect(),
        }
    }

    /// Returns the values between them that get a rule.
    pub fn small_marks(&self) -> Vec<f64> {
        match *self {
            Self::Decades { first, last } if last - first <= 3 => (first..last)
                .flat_map(|it| (2..10).map(move |digit| f64::from(digit) * 10_f64.powi(it)))
                .collect(),
            _ => Vec::new(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "exponents and counts of steps are small"
)]
fn whole(value: f64) -> i32 {
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_hold_all_values_and_clip_what_is_outside() {
        let scale = Scale::decades([0.6, 250.0, 0.0, f64::NAN].into_iter());
        assert_eq!(scale, Scale::Decades { first: -1, last: 3 });
        assert_eq!(scale.marks().len(), 5);
        assert!((scale.at(10.0) - 0.5).abs() < 1e-9);
        for (value, at) in [
            (1e9, 1.0),
            (1e-9, 0.0),
            (0.0, 0.0),
            (-5.0, 0.0),
            (f64::NAN, 0.0),
        ] {
            assert_eq!(scale.at(value), at, "{value}");
        }
        assert_eq!(
            Scale::decades([].into_iter()),
            Scale::Decades { first: 0, last: 1 }
        );
        assert_eq!(
            Scale::decades([100.0].into_iter()),
            Scale::Decades { first: 1, last: 2 }
        );
    }

    #[test]
    fn even_steps_are_round() {
        assert_eq!(
            Scale::even([20.2, 3.3].into_iter()),
            Scale::Even {
                step: 5.0,
                count: 5
            }
        );
        assert_eq!(
            Scale::even([1.9].into_iter()),
            Scale::Even {
                step: 0.5,
                count: 4
            }
        );
        assert!(matches!(
            Scale::even([].into_iter()),
            Scale::Even { count: 1, .. }
        ));
        let scale = Scale::even([20.0].into_iter());
        assert_eq!(
            (scale.at(20.0), scale.at(21.0), scale.at(-1.0)),
            (1.0, 1.0, 0.0)
        );
    }
}
