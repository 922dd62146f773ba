//! Exponential functions, and the sigmoid.

/// 1.5·2²³: adding it rounds to an integer and leaves that in the low bits.
const ROUND: f32 = 12_582_912.0;

/// eˣ to about one unit in the last place, in straight-line code that the compiler can put into vectors: x = n·ln 2 + r,
/// a polynomial for eʳ (Cephes' expf), and 2ⁿ through the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, c);
    }
    let y = p.mul_add(r * r, r) + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// 1/(1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// 2ˣ to about one unit in the last place, in the same way (Cephes' exp2f).
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = x.clamp(-126.0, 127.0);
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let mut p = 1.535_336_2e-4f32;
    for c in [1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 0.240_226_48, std::f32::consts::LN_2] {
        p = p.mul_add(r, c);
    }
    p.mul_add(r, 1.0) * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}
