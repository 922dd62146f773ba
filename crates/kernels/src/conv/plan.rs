//! Which pixels a convolution joins: the same description serves the result, the gradient of the input and that of the
//! weights.

use std::ops::Range;

/// Height, width and channels of feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Size {
    /// Pixels of one image.
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// A linear map between feature maps: output pixel `out_step`·j + origin is the sum over the taps of weights times input
/// pixel `in_step`·j + offset, for every j that has both; a pixel outside is zero. At most one of the steps is over 1.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) input: Size,
    pub(crate) output: Size,
    pub(crate) in_step: usize,
    pub(crate) out_step: usize,
    pub(crate) phases: Vec<Phase>,
}

/// The output pixels that share their taps: those at `origin` and `out_step` apart.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    pub(crate) origin: (usize, usize),
    pub(crate) taps: Vec<Tap>,
}

/// One input pixel's offset (y, x), and the places in the kernel whose weights it is multiplied by, summed.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    pub(crate) offset: (isize, isize),
    pub(crate) places: Vec<usize>,
}

/// For one dimension: (origin, offset, places along the kernel) of each tap of each phase.
type Line = Vec<(usize, isize, Vec<usize>)>;

impl Plan {
    /// Convolution with a square `kernel`, this `stride` and zeros on each side; nothing where the kernel does not fit.
    pub(crate) fn convolution(
        input: Size,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Option<Self> {
        if kernel == 0 || stride == 0 || input.height.min(input.width) + 2 * padding < kernel {
            return None;
        }
        let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        let output = Size { height: out(input.height), width: out(input.width), channels: out_channels };
        let line: Line = (0..kernel).map(|k| (0, k as isize - padding as isize, vec![k])).collect();
        let phases = phases(&line, kernel);
        Some(Self { input, output, in_step: stride, out_step: 1, phases })
    }

    /// Nearest-neighbour upsampling by two, then convolution with a 3×3 kernel that keeps the size. An output pixel sees
    /// only four input pixels, since two or four neighbours are alike: their weights are summed beforehand, which saves
    /// five products out of nine.
    pub(crate) fn upsampling(input: Size, out_channels: usize) -> Self {
        let output = Size { height: 2 * input.height, width: 2 * input.width, channels: out_channels };
        let line = vec![(0, -1, vec![0]), (0, 0, vec![1, 2]), (1, 0, vec![0, 1]), (1, 1, vec![2])];
        Self { input, output, in_step: 1, out_step: 2, phases: phases(&line, 3) }
    }

    /// Weights for each pair of channels, of `count` in all.
    pub(crate) fn places(&self, count: usize) -> usize {
        count / (self.input.channels * self.output.channels)
    }

    /// The transposed map: from gradients of the output to gradients of the input.
    pub(crate) fn adjoint(&self) -> Self {
        let all = || self.phases.iter().flat_map(|p| p.taps.iter().map(move |tap| (p.origin, tap)));
        let (s, t) = (self.in_step, self.out_step);
        // Input pixel s·j + d has output pixel t·j + a. Seen from input pixel s·m + q that is j = m + (q − d)/s.
        let seen = |q: usize, a: usize, d: isize| {
            let back = q as isize - d;
            (back.rem_euclid(s as isize) == 0).then(|| t as isize * (back / s as isize) + a as isize)
        };
        let phase = |(qy, qx): (usize, usize)| {
            let tap = |((ay, ax), tap): ((usize, usize), &Tap)| {
                let offset = (seen(qy, ay, tap.offset.0)?, seen(qx, ax, tap.offset.1)?);
                Some(Tap { offset, places: tap.places.clone() })
            };
            Phase { origin: (qy, qx), taps: all().filter_map(tap).collect() }
        };
        let phases = (0..s).flat_map(|y| (0..s).map(move |x| (y, x))).map(phase).collect();
        Self { input: self.output, output: self.input, in_step: t, out_step: s, phases }
    }

    /// Rows and columns of j in this phase.
    pub(crate) fn grid(&self, phase: &Phase) -> (usize, usize) {
        let count = |size: usize, origin: usize| size.saturating_sub(origin).div_ceil(self.out_step);
        (count(self.output.height, phase.origin.0), count(self.output.width, phase.origin.1))
    }

    /// The rows of j in this phase whose output rows are among `rows`.
    pub(crate) fn grid_rows(&self, phase: &Phase, rows: &Range<usize>) -> Range<usize> {
        let from = |row: usize| row.saturating_sub(phase.origin.0).div_ceil(self.out_step);
        from(rows.start)..from(rows.end)
    }

    /// The input rows that these rows of the output see.
    pub(crate) fn rows_seen(&self, rows: &Range<usize>) -> Range<usize> {
        let mut seen = self.input.height..0;
        for phase in &self.phases {
            for (tap, j) in
                phase.taps.iter().flat_map(|tap| self.grid_rows(phase, rows).map(move |j| (tap, j)))
            {
                if let Some(row) = self.input_row(j, tap) {
                    seen = seen.start.min(row)..seen.end.max(row + 1);
                }
            }
        }
        seen.start.min(seen.end)..seen.end
    }

    /// The input row of row `j`, if there is one.
    pub(crate) fn input_row(&self, j: usize, tap: &Tap) -> Option<usize> {
        let row = (j * self.in_step) as isize + tap.offset.0;
        (0..self.input.height as isize).contains(&row).then_some(row as usize)
    }

    /// The columns j from `from` up to `to` whose input column exists, as seen from `from`.
    pub(crate) fn columns(&self, from: usize, to: usize, tap: &Tap) -> (usize, usize) {
        let column = |j: usize| (j * self.in_step) as isize + tap.offset.1;
        let (mut first, mut last) = (from, to);
        while first < last && column(first) < 0 {
            first += 1;
        }
        while last > first && column(last - 1) >= self.input.width as isize {
            last -= 1;
        }
        (first - from, last - from)
    }
}

/// The phases and taps of a map that treats both dimensions alike.
fn phases(line: &Line, kernel: usize) -> Vec<Phase> {
    let mut phases: Vec<Phase> = vec![];
    for (ay, dy, kys) in line {
        for (ax, dx, kxs) in line {
            let places = kys.iter().flat_map(|ky| kxs.iter().map(move |kx| ky * kernel + kx)).collect();
            let tap = Tap { offset: (*dy, *dx), places };
            match phases.iter_mut().find(|phase| phase.origin == (*ay, *ax)) {
                Some(phase) => phase.taps.push(tap),
                None => phases.push(Phase { origin: (*ay, *ax), taps: vec![tap] }),
            }
        }
    }
    phases
}
