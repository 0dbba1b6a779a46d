import Flows

/// A trace for people.
package enum TraceText {
  package static func render(_ id: UInt64, _ stories: [TraceStory]) -> String {
    var text = ""
    if let flow = (stories.first { !$0.flow.question.isEmpty && $0.flow.vantage == "client" } ?? stories.first)?.flow {
      var head: [UInt8] = Array("flow ".utf8)
      appendIdentifier(id, to: &head)
      text = String(decoding: head, as: UTF8.self) + ": \(flow.question), \(flow.client) asked \(flow.server)"
      if let destination = flow.destination, destination != flow.server { text += ", sent to \(destination)" }
      text += "\n"
    }
    for story in stories {
      text += stories.count > 1 || story.attempt > 1 ? "\nAttempt \(story.attempt)\n" : "\n"
      text += table(story.steps)
      text += "\n  \(story.sentence)\n" + verdict(story)
    }
    return text
  }

  private static func table(_ steps: [TraceStory.Step]) -> String {
    var rows: [[String]] = []
    for (index, step) in steps.enumerated() {
      var after = ""
      if index > 0 {
        let previous = steps[index - 1]
        let isFar = previous.node != step.node
        after = "+" + milliseconds(step.sinceFirst &- previous.sinceFirst)
        if isFar { after += " ± " + milliseconds(max(step.error, previous.error)) }
        after = after.replacingPlusMinus
      }
      rows.append([time(step.time), step.node, step.name.replacingUnderscores, step.device, after])
    }
    let widths = (0..<4).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      var line = " "
      for column in 0..<4 { line += " " + row[column] + String(repeating: " ", count: widths[column] - row[column].count) + " " }
      line += " " + row[4]
      return String(line.reversed().drop { $0 == " " }.reversed()) + "\n"
    }.joined()
  }

  private static func verdict(_ story: TraceStory) -> String {
    var text = line(story.clientNode ?? story.serverNode, story.flow)
    if story.clientNode != nil, let flow = story.serverFlow { text += line(story.serverNode, flow) }
    if let advice = story.advice { text += "  \(advice)\n" }
    return text
  }

  private static func line(_ node: String?, _ flow: TraceFlow) -> String {
    guard let node, let verdict = flow.verdict else { return "" }
    var line = "  \(node) says: \(verdict)"
    if let reason = flow.reason { line += ", \(reason)" }
    if let grade = flow.grade { line += ", \(grade)" }
    if let incident = flow.incident { line += "; incident \(incident)" }
    if let impact = flow.impact { line += "; \(impact)" }
    if let delay = flow.delaySeconds { line += " \(milliseconds(Int64(delay * 1e9)))" }
    return line + "\n"
  }

  /// `0.041 ms`, rounded to microseconds.
  static func milliseconds(_ nanoseconds: Int64) -> String {
    let micro = (nanoseconds.magnitude + 500) / 1_000
    let fraction = String(micro % 1_000)
    return (nanoseconds < 0 && micro > 0 ? "-" : "") + "\(micro / 1_000)." + String(repeating: "0", count: 3 - fraction.count) + fraction + " ms"
  }

  private static func time(_ nanoseconds: Int64) -> String {
    var text: [UInt8] = []
    CivilTime(WallTime(nanoseconds: nanoseconds)).appendRFC3339(to: &text)
    return String(decoding: text, as: UTF8.self)
  }
}

extension String {
  fileprivate var replacingUnderscores: String { String(map { $0 == "_" ? " " : $0 }) }
  /// Clocks that differ can make a step seem to come before the one that it follows.
  fileprivate var replacingPlusMinus: String { hasPrefix("+-") ? String(dropFirst()) : self }
}
