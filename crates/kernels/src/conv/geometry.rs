//! How a convolution lies in memory: several images in one flat row a channel, so that a tap is a mere offset.
//!
//! A group of images is laid out as planes of `group · rows · pitch` numbers, one plane for each channel and, where the
//! stride s is over 1, for each of the s² phases of the padded image (phase (a, b) holds its pixels (a + s·y, b + s·x)).
//! In that layout output pixel `i` of tap (ky, kx) reads input number `i + (ky/s)·pitch + kx/s` of phase (ky mod s,
//! kx mod s). So a convolution is a matrix product whose right factor is read in place, without an im2col copy; what is
//! computed between the rows is thrown away. With stride 1 the zeros right of a row are those left of the next one.

/// Sizes of a convolution of `n` images with square kernels, and its layout in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) images: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    /// Numbers from one row to the next.
    pub(crate) pitch: usize,
    /// Rows from one image to the next.
    pub(crate) rows: usize,
    /// Images in a group.
    pub(crate) group: usize,
}

/// A group's planes come to about this many numbers a channel: long enough for the vector loops, short enough for the
/// caches. It fixes the groups, and with them the order of every sum, whatever the number of threads.
const PLANE: usize = 1200;
/// A multiple of every processor's vector length.
const VECTOR: usize = 16;

impl Geometry {
    /// The layout of a convolution of x (images, in_channels, height, width) with a weight (out_channels, in_channels,
    /// kernel, kernel); nothing where the kernel does not fit into the padded image or where a padding as wide as the
    /// kernel would make outputs of zeros only, which this layout has no place for.
    pub(crate) fn new(x: [usize; 4], weight: [usize; 4], stride: usize, padding: usize) -> Option<Self> {
        let [images, in_channels, height, width] = x;
        let [out_channels, _, kernel, kernel_width] = weight;
        let fits = kernel == kernel_width && kernel > padding && stride > 0 && images > 0;
        if !fits || height.min(width) + 2 * padding < kernel {
            return None;
        }
        let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        let (out_height, out_width) = (out(height), out(width));
        let (rows, pitch) = match stride {
            1 => (height + padding, width + padding),
            _ => (out_height + (kernel - 1) / stride, out_width + (kernel - 1) / stride),
        };
        let groups = images.div_ceil((PLANE / (rows * pitch)).max(1)).next_multiple_of(4).min(images);
        let group = images.div_ceil(groups);
        Some(Self {
            images,
            in_channels,
            out_channels,
            height,
            width,
            out_height,
            out_width,
            kernel,
            stride,
            padding,
            pitch,
            rows,
            group,
        })
    }

    /// Numbers from one plane to the next: those of the group's images, rounded up to whole vectors.
    pub(crate) fn plane(&self) -> usize {
        (self.group * self.rows * self.pitch).next_multiple_of(VECTOR)
    }

    /// Phases of the padded image.
    pub(crate) fn phases(&self) -> usize {
        self.stride * self.stride
    }

    /// Taps of the kernel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// The phase that tap number `tap` reads.
    pub(crate) fn phase(&self, tap: usize) -> usize {
        let (ky, kx) = (tap / self.kernel, tap % self.kernel);
        (ky % self.stride) * self.stride + kx % self.stride
    }

    /// From an output pixel to the input number that tap number `tap` reads, within a phase.
    pub(crate) fn shift(&self, tap: usize) -> usize {
        let (ky, kx) = (tap / self.kernel, tap % self.kernel);
        (ky / self.stride) * self.pitch + kx / self.stride
    }

    /// The largest shift.
    pub(crate) fn max_shift(&self) -> usize {
        self.shift(self.taps() - 1)
    }

    /// Numbers in an input image, and in an output image.
    pub(crate) fn image_sizes(&self) -> (usize, usize) {
        (self.in_channels * self.height * self.width, self.out_channels * self.out_height * self.out_width)
    }

    /// The rows of one channel's phase: (row in the plane, row in the image), and how its columns map:
    /// plane column q holds image column q·stride + first − padding.
    fn phase_rows(&self, phase: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (first, stride, padding, height) = (phase / self.stride, self.stride, self.padding, self.height);
        (0..self.rows).filter_map(move |row| {
            let y = (row * stride + first).checked_sub(padding)?;
            (y < height).then_some((row, y))
        })
    }

    fn phase_columns(&self, phase: usize) -> (usize, usize, usize) {
        let first = phase % self.stride;
        let start = self.padding.saturating_sub(first).div_ceil(self.stride);
        let x = start * self.stride + first - self.padding;
        let count = (self.width.saturating_sub(x)).div_ceil(self.stride).min(self.pitch - start);
        (start, x, count)
    }

    /// Lays the images `x` (each in_channels·height·width) out as the planes of a group; `planes` holds zeros.
    pub(crate) fn pack_input(&self, x: &[f32], planes: &mut [f32]) {
        let image_plane = self.rows * self.pitch;
        for (g, image) in x.chunks_exact(self.image_sizes().0).enumerate() {
            for (c, channel) in image.chunks_exact(self.height * self.width).enumerate() {
                for phase in 0..self.phases() {
                    let at = (c * self.phases() + phase) * self.plane() + g * image_plane;
                    let (start, x, count) = self.phase_columns(phase);
                    for (row, y) in self.phase_rows(phase) {
                        let to = &mut planes[at + row * self.pitch + start..][..count];
                        let from = &channel[y * self.width..][..self.width];
                        match self.stride {
                            1 => to.copy_from_slice(&from[x..x + count]),
                            s => to.iter_mut().zip(from.iter().skip(x).step_by(s)).for_each(|(t, f)| *t = *f),
                        }
                    }
                }
            }
        }
    }

    /// The reverse of [`Geometry::pack_input`] for one channel's phase: `plane` into the images `x`.
    pub(crate) fn unpack_input(&self, plane: &[f32], c: usize, phase: usize, x: &mut [f32]) {
        let size = self.height * self.width;
        let (start, first, count) = self.phase_columns(phase);
        let images = x.chunks_exact_mut(self.image_sizes().0).zip(plane.chunks_exact(self.rows * self.pitch));
        for (image, plane) in images {
            let channel = &mut image[c * size..][..size];
            for (row, y) in self.phase_rows(phase) {
                let from = &plane[row * self.pitch + start..][..count];
                let to = &mut channel[y * self.width..][..self.width];
                match self.stride {
                    1 => to[first..first + count].copy_from_slice(from),
                    s => to.iter_mut().skip(first).step_by(s).zip(from).for_each(|(t, f)| *t = *f),
                }
            }
        }
    }

    /// Lays output images `y` (each out_channels·out_height·out_width) out as planes, one a channel, zeros between the
    /// rows; `planes` holds zeros.
    pub(crate) fn pack_output(&self, y: &[f32], planes: &mut [f32]) {
        let image_plane = self.rows * self.pitch;
        for (g, image) in y.chunks_exact(self.image_sizes().1).enumerate() {
            for (o, channel) in image.chunks_exact(self.out_height * self.out_width).enumerate() {
                let plane = &mut planes[o * self.plane() + g * image_plane..][..image_plane];
                for (to, from) in plane.chunks_exact_mut(self.pitch).zip(channel.chunks_exact(self.out_width))
                {
                    to[..self.out_width].copy_from_slice(from);
                }
            }
        }
    }

    /// The reverse of [`Geometry::pack_output`] for channel `o`: `plane` into the images `y`.
    pub(crate) fn unpack_output(&self, plane: &[f32], o: usize, y: &mut [f32]) {
        let size = self.out_height * self.out_width;
        let images = y.chunks_exact_mut(self.image_sizes().1).zip(plane.chunks_exact(self.rows * self.pitch));
        for (image, plane) in images {
            let channel = &mut image[o * size..][..size];
            for (to, from) in channel.chunks_exact_mut(self.out_width).zip(plane.chunks_exact(self.pitch)) {
                to.copy_from_slice(&from[..self.out_width]);
            }
        }
    }
}
