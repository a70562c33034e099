//! Mnemonic patterns: `ld[.weak][<space>](.u32|.f32)`.

/// Choices that have a name, so that rows stay readable.
pub const GROUPS: &[(&str, &str)] = &[
    ("i16-64", ".u16|.u32|.u64|.s16|.s32|.s64"),
    ("i8-64", ".u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64"),
    ("s16-64", ".s16|.s32|.s64"),
    ("b16-64", ".b16|.b32|.b64"),
    ("x16-64", ".b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64"),
    ("data", ".b8|.b16|.b32|.b64|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f32|.f64"),
    ("data128", ".b8|.b16|.b32|.b64|.b128|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f32|.f64"),
    ("cmp-int", ".eq|.ne|.lt|.le|.gt|.ge|.lo|.ls|.hi|.hs"),
    ("cmp-float", ".eq|.ne|.lt|.le|.gt|.ge|.equ|.neu|.ltu|.leu|.gtu|.geu|.num|.nan"),
    ("bool", ".and|.or|.xor"),
    ("round", ".rn|.rz|.rm|.rp"),
    ("roundi", ".rni|.rzi|.rmi|.rpi"),
    ("scope", ".cta|.cluster|.gpu|.sys"),
    ("shared", ".shared|.shared::cta|.shared::cluster"),
    ("own", ".shared|.shared::cta"),
    ("param", ".param|.param::entry|.param::func"),
    ("ld-space", ".const|.global|.local|<param>|<shared>"),
    ("st-space", ".global|.local|.param|.param::func|<shared>"),
    ("ordered-space", ".global|<shared>"),
    ("vec", ".v2|.v4|.v8"),
    (
        "l1",
        ".L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate",
    ),
    ("l2", ".L2::evict_normal|.L2::evict_first|.L2::evict_last"),
    ("prefetch", ".L2::64B|.L2::128B|.L2::256B"),
    // Quality of an atomic; the space may stand first, as in older compilers' output.
    ("atom-sem", ".relaxed|.acquire|.release|.acq_rel"),
    (
        "atom-quality",
        "[<atom-sem>][<scope>][<ordered-space>]|<ordered-space>(<atom-sem>[<scope>]|<scope>[<atom-sem>])",
    ),
    (
        "red-quality",
        "[.relaxed|.release][<scope>][<ordered-space>]|<ordered-space>(.relaxed|.release)[<scope>]|<ordered-space><scope>[.relaxed|.release]",
    ),
    // Quality written after the operation, as libcu++ does.
    ("late-quality", "<atom-sem>[<scope>][<ordered-space>]|<scope>[<ordered-space>]"),
    ("dim", ".1d|.2d|.3d|.4d|.5d"),
    ("im2col", ".im2col|.im2col::w|.im2col::w::128"),
    ("fp8", ".e4m3|.e5m2"),
    ("fp8x2", ".e4m3x2|.e5m2x2"),
    ("s8", ".s8|.u8"),
    ("s4", ".s4|.u4"),
    ("half-red", ".add.noftz|.min|.max"),
];

#[derive(Clone, Debug)]
enum Node {
    Token(String),
    Choice(Vec<Vec<Node>>),
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    nodes: Vec<Node>,
}

struct Compiler<'a> {
    rest: &'a str,
    depth: u32,
}

impl Compiler<'_> {
    fn sequence(&mut self) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        loop {
            let Some(c) = self.rest.chars().next() else { return Ok(nodes) };
            match c {
                '[' | '(' => {
                    self.rest = &self.rest[1..];
                    let mut alternatives = self.alternatives()?;
                    let close = if c == '[' { ']' } else { ')' };
                    let Some(rest) = self.rest.strip_prefix(close) else {
                        return Err(format!("`{close}` is missing before `{}`", self.rest));
                    };
                    self.rest = rest;
                    if c == '[' {
                        alternatives.push(Vec::new());
                    }
                    nodes.push(Node::Choice(alternatives));
                }
                '<' => {
                    let (name, rest) = self.rest[1..].split_once('>').ok_or("`>` is missing")?;
                    self.rest = rest;
                    nodes.push(Node::Choice(self.group(name)?));
                }
                '|' | ']' | ')' => return Ok(nodes),
                _ => {
                    let text = self.rest.strip_prefix('.').unwrap_or(self.rest);
                    let end = text.find(['.', '[', '(', ']', ')', '|', '<']).unwrap_or(text.len());
                    if end == 0 {
                        return Err(format!("an empty part before `{text}`"));
                    }
                    nodes.push(Node::Token(text[..end].to_owned()));
                    self.rest = &text[end..];
                }
            }
        }
    }

    fn alternatives(&mut self) -> Result<Vec<Vec<Node>>, String> {
        let mut all = vec![self.sequence()?];
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest;
            all.push(self.sequence()?);
        }
        Ok(all)
    }

    fn group(&self, name: &str) -> Result<Vec<Vec<Node>>, String> {
        // `<m64nNk16>`: N from 8 to 256 in steps of 8; `<m64nMk32>`: the steps of integers.
        for (letter, step) in [('N', 8), ('M', 16)] {
            if let Some(k) = name.strip_prefix(&format!("m64n{letter}k")) {
                let all = (8..=256u32).step_by(8);
                let legal = all.filter(|n| n % step == 0 || *n < 32);
                let tokens = legal.map(|n| vec![Node::Token(format!("m64n{n}k{k}"))]);
                return Ok(tokens.collect());
            }
        }
        let (_, text) =
            GROUPS.iter().find(|(n, _)| *n == name).ok_or_else(|| format!("no group `{name}`"))?;
        if self.depth > 4 {
            return Err(format!("group `{name}` is in itself"));
        }
        let mut inner = Compiler { rest: text, depth: self.depth + 1 };
        let alternatives = inner.alternatives()?;
        if inner.rest.is_empty() { Ok(alternatives) } else { Err(format!("group `{name}`")) }
    }
}

/// Positions reachable from the positions `from` by `nodes`; sets of positions are bits.
fn ends(nodes: &[Node], tokens: &[&str], from: u32) -> u32 {
    nodes.iter().fold(from, |set, node| match node {
        Node::Token(text) => tokens
            .iter()
            .enumerate()
            .filter(|(i, token)| set >> i & 1 == 1 && *token == text)
            .fold(0, |next, (i, _)| next | 1 << (i + 1)),
        Node::Choice(alternatives) => {
            if set == 0 {
                return 0;
            }
            alternatives.iter().fold(0, |next, nodes| next | ends(nodes, tokens, set))
        }
    })
}

impl Pattern {
    /// Compiles the text of a pattern.
    pub fn compile(text: &str) -> Result<Pattern, String> {
        let mut compiler = Compiler { rest: text, depth: 0 };
        let nodes = compiler.sequence()?;
        if !compiler.rest.is_empty() {
            return Err(format!("`{}` is too much", compiler.rest));
        }
        match nodes.first() {
            Some(Node::Token(_)) => Ok(Pattern { nodes }),
            _ => Err("it does not start with a word".to_owned()),
        }
    }

    /// The first word.
    pub fn head(&self) -> &str {
        match self.nodes.first() {
            Some(Node::Token(text)) => text,
            _ => "",
        }
    }

    /// Whether it matches a mnemonic that was split at its dots.
    pub fn matches(&self, tokens: &[&str]) -> bool {
        tokens.len() < 32 && ends(&self.nodes, tokens, 1) >> tokens.len() & 1 == 1
    }

    /// One mnemonic that it matches; `choose(n)` picks one of `n` alternatives.
    pub fn example(&self, choose: &mut dyn FnMut(usize) -> usize) -> String {
        fn walk(nodes: &[Node], choose: &mut dyn FnMut(usize) -> usize, out: &mut Vec<String>) {
            for node in nodes {
                match node {
                    Node::Token(text) => out.push(text.clone()),
                    Node::Choice(alternatives) => {
                        let index = choose(alternatives.len()).min(alternatives.len() - 1);
                        walk(&alternatives[index], choose, out);
                    }
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.nodes, choose, &mut out);
        out.join(".")
    }

    /// All words in it.
    pub fn words(&self) -> Vec<&str> {
        fn walk<'a>(nodes: &'a [Node], out: &mut Vec<&'a str>) {
            for node in nodes {
                match node {
                    Node::Token(text) => out.push(text),
                    Node::Choice(alternatives) => alternatives.iter().for_each(|a| walk(a, out)),
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.nodes, &mut out);
        out
    }

    /// How far a mnemonic is from the nearest that it matches: each word too much, missing or
    /// different costs 8, or the letters in which it differs if those are fewer.
    pub fn distance(&self, tokens: &[&str]) -> usize {
        let start: Vec<usize> = (0..=tokens.len()).map(|i| i * WORD).collect();
        let end = distances(&self.nodes, tokens, &start);
        end[tokens.len()]
    }
}

const WORD: usize = 8;

/// `from[i]` is the cost of having used `i` tokens before `nodes`; the result the cost after them.
fn distances(nodes: &[Node], tokens: &[&str], from: &[usize]) -> Vec<usize> {
    nodes.iter().fold(from.to_vec(), |from, node| match node {
        Node::Token(text) => {
            let mut to: Vec<usize> = from.iter().map(|cost| cost + WORD).collect();
            for (i, token) in tokens.iter().enumerate() {
                to[i + 1] = to[i + 1].min(from[i] + letters(text, token));
            }
            for i in 0..tokens.len() {
                to[i + 1] = to[i + 1].min(to[i] + WORD);
            }
            to
        }
        Node::Choice(alternatives) => {
            let all = alternatives.iter().map(|nodes| distances(nodes, tokens, &from));
            all.reduce(|a, b| a.iter().zip(&b).map(|(x, y)| *x.min(y)).collect()).unwrap_or(from)
        }
    })
}

/// Levenshtein distance of two words, at most `WORD`.
fn letters(a: &str, b: &str) -> usize {
    if a == b {
        return 0;
    }
    if a.len().abs_diff(b.len()) >= WORD || a.len() > 64 || b.len() > 64 {
        return WORD;
    }
    let b = b.as_bytes();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = previous[j] + usize::from(x != *y);
            current.push(replaced.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()].min(WORD)
}
