//! The table: every row compiles, every mnemonic has one row, and real kernels' mnemonics are there.

use std::collections::HashSet;

use zeroforge_ptx::table;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// The mnemonics of FlashAttention-3's forward, FP8, paged and combine kernels.
#[test]
fn flash_attention_3_is_covered() {
    let list = include_str!("fa3_opcodes.txt");
    assert_eq!(list.lines().count(), 178);
    for mnemonic in list.lines() {
        let rows = table::matching(mnemonic);
        assert_eq!(rows.len(), 1, "{mnemonic}: {rows:?}");
        assert!(table::find(mnemonic).is_some(), "{mnemonic} has an unknown modifier");
    }
}

#[test]
fn patterns_are_unique_and_start_with_their_opcode() {
    let mut seen = HashSet::new();
    for form in table::forms() {
        assert!(seen.insert(form.pattern), "{} is there twice", form.pattern);
        assert!(form.pattern.starts_with(form.opcode.text()), "{form:?}");
        for word in form.compiled().expect("compiled").words() {
            let head = form.opcode.text().split('.').any(|w| w == word);
            assert!(
                head || zeroforge_ptx::Modifier::from_text(word).is_some(),
                "`{word}` of {} is no modifier",
                form.pattern
            );
        }
    }
    for opcode in zeroforge_ptx::Opcode::ALL {
        assert!(table::forms().any(|f| f.opcode == *opcode), "{opcode:?} has no row");
    }
}

/// Mnemonics drawn from each row match that row and no other, and come back from their modifiers.
#[test]
fn a_mnemonic_has_one_row() {
    let mut random = Random(7);
    for form in table::forms() {
        for _ in 0..400 {
            let mnemonic = form.compiled().expect("compiled").example(&mut |n| random.below(n));
            let rows = table::matching(&mnemonic);
            assert!(rows.len() == 1 && rows[0] == form, "{mnemonic}: {rows:#?}");
            let (form, modifiers) = table::find(&mnemonic).expect("its own row");
            let text: String = modifiers.iter().map(|m| m.text()).collect();
            assert_eq!(format!("{}{text}", form.opcode.text()), mnemonic);
        }
    }
}

#[test]
fn unknown_mnemonics_have_near_rows() {
    assert!(table::find("adds.u32").is_none());
    let near = table::nearest("wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16", 3);
    assert_eq!(near[0].pattern, "wgmma.mma_async.sync.aligned<m64nNk16>.f32(.f16.f16|.bf16.bf16)");
    assert_eq!(table::nearest("ad.s32", 1)[0].pattern, "add(<i16-64>|.sat.s32)");
    assert!(table::find("ld.global.u32.").is_none());
    assert!(table::find(&"ld.".repeat(4000)).is_none());
}
