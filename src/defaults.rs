//! Defaults of a recipe's keys. A recipe leaves a key out where it has its default, so that
//! recipes of versions before the key stay the same text.

/// Whether a value is its type's default.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// 1, the default of a factor.
pub fn one() -> f64 {
    1.0
}

/// Whether a factor is 1.
pub fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// `true`, the default of a switch that a person turns off.
pub fn yes() -> bool {
    true
}

/// Whether such a switch is on.
pub fn is_yes(value: &bool) -> bool {
    *value
}
