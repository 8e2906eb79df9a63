//! Boxes: overlap, clipping, and the four numbers by which one box is told from another.

/// Left, upper, right and lower edge in pixels.
pub type Corners = [f32; 4];

/// Widths and heights grow by 1000/16 at most in decoding.
const LONGEST_STEP: f32 = 4.135_166_6;

/// [width, height].
pub fn sides(corners: &Corners) -> [f32; 2] {
    [corners[2] - corners[0], corners[3] - corners[1]]
}

fn area(corners: &Corners) -> f32 {
    let [width, height] = sides(corners);
    width * height
}

/// |a ∩ b| / |a ∪ b|; 0 where they do not touch.
pub fn iou(a: &Corners, b: &Corners) -> f32 {
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let both = side(0) * side(1);
    if both > 0.0 { both / (area(a) + area(b) - both) } else { 0.0 }
}

/// The part of a box inside an image of `height` × `width` pixels.
pub fn clip(corners: &Corners, [height, width]: [usize; 2]) -> Corners {
    let (height, width) = (height as f32, width as f32);
    let [left, upper, right, lower] = *corners;
    let inside = |place: f32, end: f32| place.clamp(0.0, end);
    [inside(left, width), inside(upper, height), inside(right, width), inside(lower, height)]
}

/// A box as four numbers beside another: where its middle is and how large it is there, times
/// weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coder {
    /// Of x, y, width and height.
    pub weights: [f32; 4],
}

impl Coder {
    /// That of anchors.
    pub const ANCHORS: Coder = Coder { weights: [1.0; 4] };
    /// That of proposals.
    pub const PROPOSALS: Coder = Coder { weights: [10.0, 10.0, 5.0, 5.0] };

    /// The numbers of `target` beside `source`.
    pub fn encode(&self, source: &Corners, target: &Corners) -> [f32; 4] {
        let ([w, h], [tw, th]) = (sides(source), sides(target));
        let middle = |corners: &Corners, axis: usize, side: f32| corners[axis] + 0.5 * side;
        let [wx, wy, ww, wh] = self.weights;
        [
            wx * (middle(target, 0, tw) - middle(source, 0, w)) / w,
            wy * (middle(target, 1, th) - middle(source, 1, h)) / h,
            ww * (tw / w).ln(),
            wh * (th / h).ln(),
        ]
    }

    /// The box whose numbers beside `source` are `deltas`.
    pub fn decode(&self, source: &Corners, deltas: &[f32; 4]) -> Corners {
        let [w, h] = sides(source);
        let [dx, dy, dw, dh] = [0, 1, 2, 3].map(|i| deltas[i] / self.weights[i]);
        let (x, y) = (dx * w + source[0] + 0.5 * w, dy * h + source[1] + 0.5 * h);
        let (w, h) = (dw.min(LONGEST_STEP).exp() * w, dh.min(LONGEST_STEP).exp() * h);
        [x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h]
    }
}
