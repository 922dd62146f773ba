//! Convolution with 3×3 kernels of stride 1 as Winograd's F(4×4, 3×3): a tile of 4×4 pixels takes 36 products for each
//! pair of channels, where the definition takes 144 (Lavin & Gray 2016, algorithm 1). With the interpolation points 0,
//! ±1, ±2 and ∞:
//!
//! Y = Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A, summed over the input channels before Aᵀ.
//!
//! The transforms are sums of vectors across sixteen images; at each of the 36 points, what is left for a few tiles is
//! a product of matrices in registers. The gradient of the input is the same convolution with flipped kernels; that of
//! the weights is the adjoint, Gᵀ\[Σ (A dY Aᵀ) ⊙ (Bᵀ d B)\]G, whose sums over tiles and images are taken at the points.

mod kernels;

use super::bands::{Band, bands, split};
use super::outer::{CHUNK, Operand, Pair, ROWS, accumulate, transpose_rows};
use super::plan::{Plan, Size};
use super::product::{vectors, vectors_mut};
use super::shift_of_block;
use crate::maps::{Aligned, LANES, Lanes, pieces};
use crate::scratch::{scratch, unwritten};
use kernels::BackToKernels;
pub(super) use kernels::Kernels;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Pixels of a tile of the output, in each dimension.
const TILE: usize = 4;

/// Pixels of the input that a tile sees, in each dimension: as many as there are points.
const PATCH: usize = TILE + 2;

/// Products for each tile and pair of channels.
const POINTS: usize = PATCH * PATCH;

/// Output channels whose kernels lie together.
const PANEL: usize = 8;

/// Panels that a task computes: they read the same points.
const PANELS: usize = 2;

/// Tiles whose transformed channels stay in a core's second cache, for one chunk of channels.
const CACHED: usize = 16;

/// Pixels of a band: four tiles.
const BAND: usize = 4 * TILE * TILE;

/// A convolution with 3×3 kernels of stride 1 on maps of this size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winograd {
    pub(super) input: Size,
    pub(super) output: Size,
    /// Zeros beside the maps: 0 to 2.
    pub(super) padding: usize,
}

/// The pixel that a tile, or what it sees, begins with; it may lie outside the maps.
#[derive(Debug, Clone, Copy)]
struct Tile {
    block: usize,
    y: isize,
    x: isize,
}

impl Tile {
    /// The same with so many blocks, rows and columns less before it.
    fn after(&self, blocks: usize, rows: usize, columns: usize) -> Self {
        Self { block: self.block - blocks, y: self.y - rows as isize, x: self.x - columns as isize }
    }
}

/// Maps of so many vectors a pixel.
#[derive(Debug, Clone, Copy)]
struct Maps<'a> {
    height: usize,
    width: usize,
    lines: usize,
    lanes: &'a [Lanes],
}

impl<'a> Maps<'a> {
    fn new(size: Size, values: &'a [f32]) -> Self {
        let Size { height, width, channels } = size;
        Self { height, width, lines: channels, lanes: values.as_chunks::<LANES>().0 }
    }
}

impl Winograd {
    /// Whether this form is faster than the definition, for 3×3 kernels of stride 1.
    pub(super) fn pays(plan: &Plan, padding: usize) -> bool {
        padding <= 2 && plan.input.channels.min(plan.output.channels) >= PANEL
    }

    /// The transposed map: from gradients of the output to gradients of the input, with flipped kernels.
    pub(super) fn adjoint(&self) -> Self {
        Self { input: self.output, output: self.input, padding: 2 - self.padding }
    }

    /// Applies it to all blocks of `x`. `shift` is (blocks or 1, channels, 16).
    pub(super) fn multiply(&self, kernels: Kernels, shift: &[f32], x: &[f32]) -> Vec<f32> {
        let Self { input, output, .. } = *self;
        let blocks = x.len() / (input.pixels() * input.channels * LANES);
        let mut out = unwritten(blocks * output.pixels() * output.channels * LANES);
        let bands = bands(output, blocks, TILE, BAND);
        let bands = split(bands, output, &mut out);
        if bands.len() == 1 {
            // Each task transforms its own kernels, which then never leave its cache.
            let weights = Weights { kernels, transformed: None };
            bands.into_iter().for_each(|(band, out)| self.multiply_band(weights, shift, x, &band, out));
            return out;
        }
        scratch(kernels.panels() * kernels.panel(), |transformed| {
            let panels = transformed.par_chunks_mut(kernels.panel()).enumerate();
            panels.for_each(|(panel, out)| kernels.transform(panel, out));
            let weights = Weights { kernels, transformed: Some(transformed) };
            bands.into_par_iter().for_each(|(band, out)| self.multiply_band(weights, shift, x, &band, out));
        });
        out
    }

    /// The tiles of a band of the output.
    fn tiles(&self, band: &Band) -> Vec<Tile> {
        let mut tiles = vec![];
        for block in band.blocks.clone() {
            for y in band.rows.clone().step_by(TILE) {
                let tile = |x| Tile { block, y: y as isize, x: x as isize };
                tiles.extend((0..self.output.width).step_by(TILE).map(tile));
            }
        }
        tiles
    }

    fn multiply_band(&self, weights: Weights, shift: &[f32], x: &[f32], band: &Band, out: &mut [f32]) {
        let Self { input, output, padding } = *self;
        let (tiles, maps) = (self.tiles(band), Maps::new(input, x));
        let layout = Points::new(input.channels, 0, tiles.len());
        let mut tasks = pieces(out, output.channels * LANES, PANELS * PANEL * LANES);
        let arch = crate::process::arch();
        scratch(layout.len(), |points| {
            for tiles in tiles.chunks(layout.tiles) {
                let patches: Vec<Tile> = tiles.iter().map(|tile| tile.after(0, padding, padding)).collect();
                layout.fill::<Patch>(maps, &patches, points);
                tasks.par_iter_mut().enumerate().for_each(|(task, pixels)| {
                    scratch(PANELS * POINTS * products_pitch(tiles.len()), |products| {
                        let first = task * PANELS;
                        let panels = first..(first + PANELS).min(weights.kernels.panels());
                        let pixels = Pixels { band, size: output, tiles, shift, first, pixels };
                        weights.with_panels(panels, |weights| {
                            let depth = input.channels;
                            arch.dispatch(Multiply { weights, depth, layout, points, products, pixels });
                        });
                    });
                });
            }
        });
    }

    /// Σ grad·x over images and pixels, for each weight (out, in, 3, 3).
    pub(super) fn weight_gradient(&self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let Self { input, output, .. } = *self;
        let blocks = x.len() / (input.pixels() * input.channels * LANES);
        let (rows, columns) =
            (output.channels.next_multiple_of(ROWS), input.channels.next_multiple_of(CHUNK));
        let mut sums = vec![0.0; POINTS * rows * columns];
        for band in bands(output, blocks, TILE, 2 * BAND) {
            self.add_band(x, grad, &band, &mut sums);
        }
        let mut out = unwritten(output.channels * input.channels * 9);
        let arch = crate::process::arch();
        out.par_chunks_mut(input.channels * 9).enumerate().for_each(|(row, out)| {
            arch.dispatch(BackToKernels { sums: &sums, row, rows, columns, out });
        });
        out
    }

    /// Adds a band's part to the sums (points, rows, columns).
    fn add_band(&self, x: &[f32], grad: &[f32], band: &Band, sums: &mut [f32]) {
        let Self { input, output, padding } = *self;
        let columns = input.channels.next_multiple_of(CHUNK);
        let tiles = self.tiles(band);
        // Rows of the input that the band sees.
        let first = band.rows.start.saturating_sub(padding);
        let last = (band.rows.end.next_multiple_of(TILE) + 2 - padding).min(input.height);
        let seen = first..last.max(first);
        let x = x.as_chunks::<LANES>().0;
        let entries = band.blocks.len() * seen.len() * input.width;
        let grad_chunks = output.channels.div_ceil(CHUNK);
        let of_x = Points::new(columns, grad_chunks, tiles.len());
        let of_grad = Points { chunks: grad_chunks, ..of_x };
        scratch(entries * columns, |transposed| {
            transpose_rows(input, x, band.blocks.clone(), seen.clone(), transposed);
            let maps = Maps { height: seen.len(), width: input.width, lines: columns, lanes: transposed };
            scratch(of_x.len() + of_grad.len(), |points| {
                let (x_points, grad_points) = points.split_at_mut(of_x.len());
                for tiles in tiles.chunks(of_x.tiles) {
                    let (blocks, rows) = (band.blocks.start, seen.start + padding);
                    let patches: Vec<Tile> =
                        tiles.iter().map(|tile| tile.after(blocks, rows, padding)).collect();
                    rayon::join(
                        || of_x.fill::<Patch>(maps, &patches, x_points),
                        || of_grad.fill::<Gradient>(Maps::new(output, grad), tiles, grad_points),
                    );
                    let pairs: Vec<Vec<Pair>> = (0..POINTS)
                        .map(|point| {
                            (0..tiles.len()).map(|t| (of_grad.at(point, t), of_x.at(point, t))).collect()
                        })
                        .collect();
                    let g = Operand { lanes: grad_points, chunk: of_grad.chunk() };
                    let x = Operand { lanes: x_points, chunk: of_x.chunk() };
                    accumulate(sums, (output.channels, columns), g, x, &pairs);
                }
            });
        });
    }
}

/// How transformed tiles lie: (chunks, points, tiles, 16), a vector further apart from point to point so that the points
/// of a tile do not drive each other out of the first cache.
#[derive(Debug, Clone, Copy)]
struct Points {
    chunks: usize,
    tiles: usize,
}

impl Points {
    /// For as many of `tiles` tiles of maps of `lines` vectors as one does well to transform at a time, where `beside`
    /// chunks of others are kept too.
    fn new(lines: usize, beside: usize, tiles: usize) -> Self {
        let chunks = lines.div_ceil(CHUNK);
        Self { chunks, tiles: (CACHED / (chunks + beside)).max(2).min(tiles) }
    }

    fn pitch(&self) -> usize {
        self.tiles * CHUNK + 1
    }

    fn chunk(&self) -> usize {
        POINTS * self.pitch()
    }

    fn len(&self) -> usize {
        self.chunks * self.chunk()
    }

    /// Where a tile's first chunk is.
    fn at(&self, point: usize, tile: usize) -> usize {
        point * self.pitch() + tile * CHUNK
    }

    /// Transforms tiles of `maps`.
    fn fill<L: Line>(&self, maps: Maps, tiles: &[Tile], out: &mut [Lanes]) {
        let arch = crate::process::arch();
        out.par_chunks_mut(self.chunk()).enumerate().for_each(|(chunk, out)| {
            arch.dispatch(Fill::<L> {
                maps,
                tiles,
                layout: *self,
                chunk,
                out,
                line: std::marker::PhantomData,
            });
        });
    }
}

/// A transform along one dimension: the first numbers of six to others.
trait Line: Sync {
    /// How many numbers it takes.
    const FROM: usize;
    /// How many it gives.
    const TO: usize;
    fn apply<S: Simd>(simd: S, d: [S::f32s; PATCH]) -> [S::f32s; PATCH];
}

/// Bᵀ: from a patch to points.
struct Patch;

/// A: from a tile's gradient to points.
struct Gradient;

/// Aᵀ: from points to a tile.
struct Result;

impl Line for Patch {
    const FROM: usize = PATCH;
    const TO: usize = PATCH;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, d: [S::f32s; PATCH]) -> [S::f32s; PATCH] {
        let times = |k: f32, x, y| simd.mul_add_f32s(simd.splat_f32s(k), x, y);
        let (even, odd) = (times(-4.0, d[2], d[4]), times(-4.0, d[1], d[3]));
        let (even_2, odd_2) = (simd.sub_f32s(d[4], d[2]), simd.sub_f32s(d[3], d[1]));
        [
            times(4.0, d[0], times(-5.0, d[2], d[4])),
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            times(2.0, odd_2, even_2),
            times(-2.0, odd_2, even_2),
            times(4.0, d[1], times(-5.0, d[3], d[5])),
        ]
    }
}

impl Line for Gradient {
    const FROM: usize = TILE;
    const TO: usize = PATCH;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, y: [S::f32s; PATCH]) -> [S::f32s; PATCH] {
        let times = |k: f32, x, y| simd.mul_add_f32s(simd.splat_f32s(k), x, y);
        let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
        let (even_2, odd_2) = (times(4.0, y[2], y[0]), times(4.0, y[3], y[1]));
        [
            y[0],
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            times(2.0, odd_2, even_2),
            times(-2.0, odd_2, even_2),
            y[3],
        ]
    }
}

impl Line for Result {
    const FROM: usize = PATCH;
    const TO: usize = TILE;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, m: [S::f32s; PATCH]) -> [S::f32s; PATCH] {
        let times = |k: f32, x, y| simd.mul_add_f32s(simd.splat_f32s(k), x, y);
        let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
        let (sum_2, difference_2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        [
            simd.add_f32s(simd.add_f32s(m[0], sum), sum_2),
            times(2.0, difference_2, difference),
            times(4.0, sum_2, sum),
            times(8.0, difference_2, simd.add_f32s(difference, m[5])),
            m[0],
            m[0],
        ]
    }
}

/// Transforms one chunk of channels of some tiles.
struct Fill<'a, L> {
    maps: Maps<'a>,
    tiles: &'a [Tile],
    layout: Points,
    chunk: usize,
    out: &'a mut [Lanes],
    line: std::marker::PhantomData<L>,
}

impl<L: Line> WithSimd for Fill<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 1>(simd),
            8 => self.run::<S, 2>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, LANES>(simd),
        }
    }
}

impl<L: Line> Fill<'_, L> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(mut self, simd: S) {
        let first = self.chunk * CHUNK;
        let count = CHUNK.min(self.maps.lines - first);
        for tile in 0..self.tiles.len() {
            let mut line = 0;
            while line < count {
                line += match count - line {
                    CHUNK.. => self.lines::<S, V, CHUNK>(simd, tile, line),
                    8.. => self.lines::<S, V, 8>(simd, tile, line),
                    _ => self.lines::<S, V, 1>(simd, tile, line),
                };
            }
        }
    }

    /// `N` vectors of each pixel of a tile.
    #[inline(always)]
    fn lines<S: Simd, const V: usize, const N: usize>(
        &mut self,
        simd: S,
        tile: usize,
        first: usize,
    ) -> usize {
        let Self { maps, tiles, layout, chunk, out, .. } = self;
        let Maps { height, width, lines, lanes } = *maps;
        let Tile { block, y, x } = tiles[tile];
        let pixels = vectors::<S, V>(lanes.as_flattened());
        let out = &mut vectors_mut::<S, V>(out.as_flattened_mut())[layout.at(0, tile) + first..];
        let zeros = [[simd.splat_f32s(0.0); V]; N];
        let mut patch = [[&zeros; PATCH]; PATCH];
        for i in 0..L::FROM {
            for j in 0..L::FROM {
                let (y, x) = (y + i as isize, x + j as isize);
                if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                    let pixel = (block * height + y as usize) * width + x as usize;
                    let numbers = &pixels[pixel * lines + *chunk * CHUNK + first..][..N];
                    patch[i][j] = numbers.try_into().expect("N vectors");
                }
            }
        }
        let mut half = Aligned([[simd.splat_f32s(0.0); PATCH]; PATCH]);
        for line in 0..N {
            for v in 0..V {
                for j in 0..L::FROM {
                    let mut column = [simd.splat_f32s(0.0); PATCH];
                    for i in 0..L::FROM {
                        column[i] = patch[i][j][line][v];
                    }
                    let column = L::apply(simd, column);
                    for i in 0..L::TO {
                        half.0[i][j] = column[i];
                    }
                }
                for i in 0..L::TO {
                    let row = L::apply(simd, half.0[i]);
                    for j in 0..L::TO {
                        out[(i * PATCH + j) * layout.pitch() + line][v] = row[j];
                    }
                }
            }
        }
        N
    }
}

/// Vectors between the products at two points.
fn products_pitch(tiles: usize) -> usize {
    tiles * PANEL + 1
}

/// Where the numbers of some tiles go: some panels' part of every pixel of a band.
struct Pixels<'a, 'b> {
    band: &'a Band,
    size: Size,
    tiles: &'a [Tile],
    shift: &'a [f32],
    first: usize,
    pixels: &'a mut [&'b mut [f32]],
}

/// The kernels, and where they are transformed already, those too: (panels, …) as [`Kernels::panel`] has it.
#[derive(Debug, Clone, Copy)]
struct Weights<'a> {
    kernels: Kernels<'a>,
    transformed: Option<&'a [Lanes]>,
}

impl Weights<'_> {
    /// Gives `f` the transformed kernels of some panels.
    fn with_panels(&self, panels: Range<usize>, f: impl FnOnce(&[Lanes])) {
        let size = self.kernels.panel();
        match self.transformed {
            Some(all) => f(&all[panels.start * size..panels.end * size]),
            None => scratch(panels.len() * size, |transformed| {
                self.kernels.transform(panels.start, transformed);
                f(transformed);
            }),
        }
    }
}

/// The products of some tiles by the weights of some panels, and their transform back.
struct Multiply<'a, 'b> {
    weights: &'a [Lanes],
    depth: usize,
    layout: Points,
    points: &'a [Lanes],
    products: &'a mut [Lanes],
    pixels: Pixels<'a, 'b>,
}

impl WithSimd for Multiply<'_, '_> {
    type Output = ();

    /// A product's sums, some tiles by some rows of a panel, and what they are made of fill the vector registers.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 1, 2, 8>(simd),
            8 => self.run::<S, 2, 1, 4>(simd),
            4 => self.run::<S, 4, 1, 4>(simd),
            _ => self.run::<S, LANES, 1, 1>(simd),
        }
    }
}

impl Multiply<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const T: usize, const R: usize>(mut self, simd: S) {
        let tiles = self.pixels.tiles.len();
        let panels = self.weights.len() / (self.depth.div_ceil(CHUNK) * POINTS * PANEL);
        for point in 0..POINTS {
            for panel in 0..panels {
                for row in (0..PANEL).step_by(R) {
                    let mut tile = 0;
                    while tile + T <= tiles {
                        self.product::<S, V, T, R>(simd, point, panel, tile, row);
                        tile += T;
                    }
                    while tile < tiles {
                        self.product::<S, V, 1, R>(simd, point, panel, tile, row);
                        tile += 1;
                    }
                }
            }
        }
        for panel in 0..panels {
            for tile in 0..tiles {
                self.transform_back::<S, V>(simd, panel, tile);
            }
        }
    }

    /// At one point, `T` tiles by `R` rows of a panel.
    #[inline(always)]
    fn product<S: Simd, const V: usize, const T: usize, const R: usize>(
        &mut self,
        simd: S,
        point: usize,
        panel: usize,
        tile: usize,
        row: usize,
    ) {
        let Self { weights, depth, layout, points, .. } = *self;
        let points = vectors::<S, V>(points.as_flattened());
        let weights = weights.as_flattened().as_chunks::<PANEL>().0;
        let chunks = depth.div_ceil(CHUNK);
        let mut sums = [[[simd.splat_f32s(0.0); V]; T]; R];
        for chunk in 0..chunks {
            let at = ((panel * chunks + chunk) * POINTS + point) * CHUNK;
            let weights = &weights[at..at + CHUNK.min(depth - chunk * CHUNK)];
            let mut of_tile: [&[[S::f32s; V]]; T] = [&[]; T];
            for t in 0..T {
                of_tile[t] = &points[chunk * layout.chunk() + layout.at(point, tile + t)..][..weights.len()];
            }
            for d in 0..weights.len() {
                for r in 0..R {
                    let weight = simd.splat_f32s(weights[d][row + r]);
                    for t in 0..T {
                        for v in 0..V {
                            sums[r][t][v] = simd.mul_add_f32s(weight, of_tile[t][d][v], sums[r][t][v]);
                        }
                    }
                }
            }
        }
        let tiles = self.pixels.tiles.len();
        let out = vectors_mut::<S, V>(self.products.as_flattened_mut());
        for t in 0..T {
            let at = (panel * POINTS + point) * products_pitch(tiles) + (tile + t) * PANEL + row;
            for (r, out) in out[at..at + R].iter_mut().enumerate() {
                *out = sums[r][t];
            }
        }
    }

    /// From the points of a tile to its pixels.
    #[inline(always)]
    fn transform_back<S: Simd, const V: usize>(&mut self, simd: S, panel: usize, tile: usize) {
        let Pixels { band, size, tiles, shift, first, pixels } = &mut self.pixels;
        let pitch = products_pitch(tiles.len());
        let Tile { block, y, x } = tiles[tile];
        let channel = (*first + panel) * PANEL;
        let rows = PANEL.min(size.channels - channel);
        let shift = shift_of_block(shift, size.channels, block);
        let shift = &vectors::<S, V>(shift)[channel..][..rows];
        let products = vectors::<S, V>(self.products.as_flattened());
        let products = &products[panel * POINTS * pitch + tile * PANEL..];
        let row = (block - band.blocks.start) * band.rows.len() + y as usize - band.rows.start;
        let (height, width) = (TILE.min(band.rows.end - y as usize), TILE.min(size.width - x as usize));
        let mut half = Aligned([[simd.splat_f32s(0.0); PATCH]; PATCH]);
        for r in 0..rows {
            for v in 0..V {
                for j in 0..PATCH {
                    let mut column = [simd.splat_f32s(0.0); PATCH];
                    for i in 0..PATCH {
                        column[i] = products[(i * PATCH + j) * pitch + r][v];
                    }
                    let column = Result::apply(simd, column);
                    for i in 0..TILE {
                        half.0[i][j] = column[i];
                    }
                }
                for i in 0..height {
                    let line = Result::apply(simd, half.0[i]);
                    for j in 0..TILE {
                        if j < width {
                            let pixel = &mut *pixels[(row + i) * size.width + x as usize + j];
                            vectors_mut::<S, V>(pixel)[panel * PANEL + r][v] =
                                simd.add_f32s(line[j], shift[r][v]);
                        }
                    }
                }
            }
        }
    }
}
