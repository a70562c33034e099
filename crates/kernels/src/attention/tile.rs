//! The tile of an instance, from `kernels/variants.toml`.

use std::sync::OnceLock;

use serde::Deserialize;

use super::{Element, Forward};

/// How the work of an instance is cut.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    element: Vec<Element>,
    /// The largest head dimension that it is for.
    pub head_dim: u32,
    /// The largest value dimension that it is for.
    pub value_dim: u32,
    scores: Vec<Scores>,
    /// Keys of a tile.
    pub keys: u32,
    /// Warpgroups that multiply, of 64 rows of queries each.
    pub groups: u32,
    /// Slots of K and of V.
    pub stages: u32,
    /// Slots of Q.
    pub q_stages: u32,
    /// Whether warpgroups take turns on the tensor cores.
    pub ping_pong: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scores {
    Even,
    Uneven,
    Modified,
}

#[derive(Deserialize)]
struct Variants {
    attention: Vec<Tile>,
}

fn variants() -> &'static [Tile] {
    static VARIANTS: OnceLock<Vec<Tile>> = OnceLock::new();
    VARIANTS.get_or_init(|| {
        let text = include_str!("../../../../kernels/variants.toml");
        toml::from_str::<Variants>(text).expect("variants.toml is part of the program").attention
    })
}

impl Tile {
    /// The first variant that fits.
    pub(super) fn of(spec: &Forward) -> Option<&'static Tile> {
        let scores = if spec.modifies_scores() {
            Scores::Modified
        } else if spec.uneven() {
            Scores::Uneven
        } else {
            Scores::Even
        };
        variants().iter().find(|t| {
            t.element.contains(&spec.element)
                && spec.head_dim <= t.head_dim
                && spec.value_dim <= t.value_dim
                && t.scores.contains(&scores)
        })
    }

    /// Rows of queries of a block.
    pub fn rows(&self) -> u32 {
        64 * self.groups
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        128 * (self.groups + 1)
    }
}
