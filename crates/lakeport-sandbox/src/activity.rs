//! The part of the page that shows what is going on: faults that are set, and the last calls.

use std::fmt::Write as _;

use crate::App;
use crate::page::escape;

/// How many calls the page shows; `GET /sandbox/calls` has more.
const SHOWN: usize = 50;

/// Both tables; nothing as long as there is nothing to show.
pub(crate) fn section(app: &App) -> String {
    let mut out = String::new();
    let faults = app.faults.list();
    if !faults.is_empty() {
        out.push_str(
            "<h2>Active faults</h2><div class=scroll><table><thead><tr><th>fault<th class=n>calls seen<th class=n>struck</thead><tbody>",
        );
        for active in &faults {
            let text = escape(&active.fault.to_string());
            let _ = write!(out, "<tr><td><code>{text}</code><td class=n>{}<td class=n>{}", active.seen, active.struck);
        }
        out.push_str("</tbody></table></div>");
    }
    let (calls, count) = app.history.list();
    if calls.is_empty() {
        return out;
    }
    let _ = write!(
        out,
        "<h2>Calls</h2><p class=lead>{count} so far, the last first · <a href=\"/sandbox/calls\">as JSON</a></p>\
         <div class=scroll><table><thead><tr><th class=n>#<th>at<th>call<th>kind<th class=n>status<th class=n>ms<th>fault</thead><tbody>"
    );
    for call in calls.iter().rev().take(SHOWN) {
        let _ = write!(
            out,
            "<tr><td class=n>{}<td>{}<td><code>{} {}</code><td>{}<td class=n>{}<td class=n>{}<td>{}",
            call.number,
            call.at.format("%H:%M:%S"),
            escape(&call.method),
            escape(&call.target),
            call.call.word(),
            call.status.map_or_else(|| "–".to_owned(), |status| status.to_string()),
            call.took.map_or_else(|| "–".to_owned(), |took| took.as_millis().to_string()),
            call.fault.as_deref().map(escape).unwrap_or_default(),
        );
    }
    out.push_str("</tbody></table></div>");
    out
}
