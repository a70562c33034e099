//! Refusals name the argument and the rule; plans have the launches that a call needs.

use super::*;
use crate::Refusal;

fn place(buffer: u32) -> Place {
    Place { buffer, offset: Expr::constant(0) }
}

fn strided(buffer: u32, strides: [i64; 3]) -> Strided {
    Strided { at: place(buffer), strides: strides.map(Expr::from) }
}

const SPEC: DecodeSpec = DecodeSpec {
    dtype: DType::Bf16,
    cache: CacheType::Same,
    head_dim: 128,
    value_dim: 128,
    latent: false,
    paged: false,
    softcap: false,
    alibi: false,
    rotary: None,
    copies: Copies::Threads,
};

fn call() -> DecodeCall {
    DecodeCall {
        batch: 2.into(),
        heads: 8,
        kv_heads: 2,
        queries: 1,
        q: strided(0, [1024, 128, 1024]),
        o: strided(1, [1024, 128, 1024]),
        cache: KvCache {
            k: strided(2, [1 << 20, 128, 256]),
            v: Some(strided(3, [1 << 20, 128, 256])),
            lengths: Some(place(4)),
            left_padding: None,
            batch_index: None,
            page_table: None,
            units: 2.into(),
            capacity: 4096.into(),
        },
        new: None,
        rotary: None,
        scale: 0.1,
        softcap: 0.0,
        window_left: None,
        window_right: Some(0),
        sinks: None,
        slopes: None,
        k_descale: None,
        v_descale: None,
        lse: None,
        splits: 1,
        workspace: None,
    }
}

fn new_rows() -> NewRows {
    NewRows { k: strided(5, [256, 128, 256]), v: Some(strided(6, [256, 128, 256])), rows: 1 }
}

fn refused(spec: &DecodeSpec, change: impl FnOnce(&mut DecodeCall)) -> String {
    let mut call = call();
    change(&mut call);
    match plan(spec, &call) {
        Ok(_) => "accepted".to_owned(),
        Err(Refusal { argument, rule, .. }) => format!("{argument} {rule}"),
    }
}

#[test]
fn what_is_compiled_in_is_checked() {
    let of = |spec: DecodeSpec| refused(&spec, |_| ());
    for (spec, argument) in [
        (DecodeSpec { dtype: DType::F32, ..SPEC }, "dtype is f32"),
        (DecodeSpec { head_dim: 72, ..SPEC }, "head_dim is 72"),
        (DecodeSpec { value_dim: 0, ..SPEC }, "value_dim is 0"),
        (DecodeSpec { head_dim: 272, ..SPEC }, "head_dim is 272"),
        (DecodeSpec { latent: true, ..SPEC }, "head_dim and value_dim are 128 and 128; latent"),
        (
            DecodeSpec { rotary: Some(Rotary { dim: 24, interleaved: true }), ..SPEC },
            "rotary.dim is 24",
        ),
        (
            DecodeSpec { rotary: Some(Rotary { dim: 144, interleaved: true }), ..SPEC },
            "rotary.dim is 144",
        ),
        (DecodeSpec { copies: Copies::Tensor(24), ..SPEC }, "copies are of 24 rows"),
        (
            DecodeSpec { copies: Copies::Tensor(64), cache: CacheType::E4m3, ..SPEC },
            "copies of an e4m3 cache",
        ),
        (DecodeSpec { paged: true, ..SPEC }, "cache.page_table is missing"),
        (DecodeSpec { alibi: true, ..SPEC }, "slopes is missing"),
        (DecodeSpec { softcap: true, ..SPEC }, "softcap is 0"),
        (
            DecodeSpec { rotary: Some(Rotary { dim: 64, interleaved: true }), ..SPEC },
            "rotary is missing",
        ),
    ] {
        let found = of(spec);
        assert!(found.starts_with(argument), "{argument}: {found}");
    }
}

#[test]
fn calls_are_checked() {
    type Change = fn(&mut DecodeCall);
    let cases: [(&str, Change); 22] = [
        ("heads is 9, which is not a multiple", |c| c.heads = 9),
        ("queries is 0", |c| c.queries = 0),
        ("queries is 65", |c| c.queries = 65),
        ("kv_heads is 0", |c| c.kv_heads = 0),
        ("batch is -1", |c| c.batch = (-1).into()),
        ("cache.capacity is 1073741824", |c| c.cache.capacity = (1 << 30).into()),
        ("splits is 0", |c| c.splits = 0),
        ("splits is 129", |c| c.splits = 129),
        ("workspace is missing", |c| c.splits = 2),
        ("window_left is -1", |c| c.window_left = Some(-1)),
        ("window_right is -5", |c| c.window_right = Some(-5)),
        ("scale is NaN", |c| c.scale = f32::NAN),
        ("q has a stride of heads of 100", |c| c.q.strides[1] = 100.into()),
        ("q has an offset of 8", |c| c.q.at.offset = 8.into()),
        ("o has a stride of rows of 1023", |c| c.o.strides[2] = 1023.into()),
        ("cache.k has a stride of rows of 129", |c| c.cache.k.strides[2] = 129.into()),
        ("cache.v is missing", |c| c.cache.v = None),
        ("cache.v has a stride of sequences of 4", |c| {
            c.cache.v.as_mut().unwrap().strides[0] = 4.into();
        }),
        ("cache.lengths has an offset of 2", |c| {
            c.cache.lengths.as_mut().unwrap().offset = 2.into();
        }),
        ("cache.lengths is missing", |c| {
            c.new = Some(new_rows());
            c.cache.lengths = None;
        }),
        ("slopes is given", |c| c.slopes = Some(place(7))),
        ("k_descale is given", |c| c.k_descale = Some(place(7))),
    ];
    for (expected, change) in cases {
        let found = refused(&SPEC, change);
        assert!(found.starts_with(expected), "{expected}: {found}");
    }
}

#[test]
fn pages_and_quantised_caches_are_checked() {
    let paged = DecodeSpec { paged: true, ..SPEC };
    let table = |page_rows| PageTable { at: place(8), stride: 64.into(), page_rows };
    let with = |rows, change: fn(&mut DecodeCall)| {
        refused(&paged, |c| {
            c.cache.page_table = Some(table(rows));
            change(c);
        })
    };
    assert_eq!(with(64, |_| ()), "accepted");
    assert!(with(24, |_| ()).starts_with("cache.page_table.page_rows is 24"));
    assert!(with(0, |_| ()).starts_with("cache.page_table.page_rows is 0"));
    assert!(with(48, |_| ()).starts_with("cache.capacity takes 86 pages"));
    assert!(with(64, |c| c.cache.batch_index = Some(place(9))).starts_with("cache.batch_index"));
    assert!(
        refused(&SPEC, |c| c.cache.page_table = Some(table(64)))
            .starts_with("cache.page_table is given")
    );
    let tensor = DecodeSpec { copies: Copies::Tensor(64), ..paged };
    let small = refused(&tensor, |c| {
        c.cache.page_table = Some(PageTable { stride: 256.into(), ..table(16) });
    });
    assert!(small.starts_with("cache.page_table.page_rows is 16"), "{small}");
    let quantised = DecodeSpec { cache: CacheType::E4m3, ..SPEC };
    assert_eq!(refused(&quantised, |c| c.k_descale = Some(place(7))), "accepted");
    assert!(
        refused(&quantised, |c| c.cache.k.strides[2] = 264.into())
            .starts_with("cache.k has a stride of rows of 264")
    );
}

#[test]
fn symbolic_sizes_are_accepted_where_their_multiples_are_known() {
    let length = Expr::symbol(zeroforge_artifact::Symbol(0));
    let strided = |rows: i64| {
        refused(&SPEC, |c| {
            c.batch = length.clone();
            c.cache.capacity = length.clone();
            c.cache.k.strides[0] = length.clone() * Expr::constant(rows);
        })
    };
    assert_eq!(strided(256), "accepted");
    assert!(strided(3).starts_with("cache.k has a stride of sequences"), "{}", strided(3));
}

#[test]
fn a_call_has_the_launches_that_it_needs() {
    let kernels = |change: fn(&mut DecodeCall)| -> Vec<String> {
        let mut call = call();
        change(&mut call);
        let launches = plan(&SPEC, &call).unwrap();
        launches
            .iter()
            .map(|l| {
                let entry = l.instance.entry.split('_').nth(1).unwrap_or_default();
                format!("{entry} {}", l.plan.grid[0])
            })
            .collect()
    };
    assert_eq!(kernels(|_| ()), ["decode 4"]);
    assert_eq!(
        kernels(|c| {
            c.splits = 3;
            c.workspace = Some(place(9));
            c.new = Some(new_rows());
        }),
        // 2 * 2 * 1 rows of 32 pieces in blocks of 256 threads; 2 * 2 * 3 blocks; 16 outputs, four a block.
        ["append 1", "decode 12", "combine 4"]
    );
    // 8 queries of 16 heads are two blocks of 64 rows.
    assert_eq!(
        kernels(|c| {
            c.heads = 32;
            c.queries = 8;
        }),
        ["decode 8"]
    );
    assert_eq!(workspace_bytes(&2.into(), 8, 1, 128, 3).as_const(), Some(2 * 8 * 3 * 129 * 4));
    assert_eq!(workspace_bytes(&2.into(), 8, 1, 128, 1).as_const(), Some(0));
}

#[test]
fn copies_are_chosen_by_pages() {
    let copies = |spec: DecodeSpec, page_rows| spec.with_copies_for(page_rows).copies;
    let paged = DecodeSpec { paged: true, ..SPEC };
    assert_eq!(copies(SPEC, 0), Copies::Tensor(64));
    assert_eq!(copies(paged, 128), Copies::Tensor(64));
    assert_eq!(copies(paged, 16), Copies::Threads);
    assert_eq!(copies(DecodeSpec { head_dim: 256, ..paged }, 32), Copies::Tensor(32));
    assert_eq!(copies(DecodeSpec { cache: CacheType::E4m3, ..SPEC }, 0), Copies::Threads);
}
