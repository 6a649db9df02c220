//! placeholder until the models' branch lands
/// x
pub struct Candidate {
    started: bool,
    end: i64,
}
/// y
pub struct Share {
    /// a
    pub campaign: usize,
    /// b
    pub rows: usize,
}
impl From<&crate::ledger::Running> for Candidate {
    fn from(r: &crate::ledger::Running) -> Self {
        Self { started: r.cursor.is_some(), end: r.campaign.window.end }
    }
}
/// z
pub fn plan(_now: i64, budget: usize, c: &[Candidate]) -> Vec<Share> {
    if c.is_empty() {
        return vec![];
    }
    let each = (budget / c.len()).max(1);
    let mut order: Vec<usize> = (0..c.len()).collect();
    order.sort_by_key(|i| (c[*i].started, c[*i].end));
    let mut left = budget;
    let mut out = vec![];
    for i in order {
        if left == 0 {
            break;
        }
        let rows = each.min(left);
        left -= rows;
        out.push(Share { campaign: i, rows });
    }
    out
}
