package import Flows

/// Type of a metric family, in the terms of OpenMetrics 1.0.
package enum MetricType: UInt8, Sendable {
  case counter
  case gauge
  case histogram
  /// Constant labels; a gauge of 1 in Prometheus text.
  case info
}

/// Everything that a page says of a family before its samples.
package struct MetricDescriptor: Sendable {
  /// Without the suffix that its type adds (`_total`, `_bucket`, `_info`).
  package var name: StaticString
  package var type: MetricType
  /// `seconds` or `bytes`, which the name must end in; nil for a number of things.
  package var unit: StaticString?
  package var help: StaticString
  /// Label names in the order in which samples give their values. The order never changes: parsers cache series by their text.
  package var labels: [StaticString]

  package init(_ name: StaticString, _ type: MetricType, unit: StaticString? = nil, labels: [StaticString] = [], help: StaticString) {
    self.name = name
    self.type = type
    self.unit = unit
    self.labels = labels
    self.help = help
  }
}

/// The value of a label. A literal is one of a closed list; `text` comes from outside and is escaped. An empty value is the same as no label.
package enum LabelValue: Sendable, ExpressibleByStringLiteral {
  case fixed(StaticString)
  case text(String)

  package init(stringLiteral value: StaticString) { self = .fixed(value) }
}

/// The one incident that an increase stands for; OpenMetrics only, counters and buckets only. It carries the incident's id and nothing else:
/// 27 of the 128 characters that an exemplar's labels may have.
package struct Exemplar: BitwiseCopyable, Sendable {
  package var incidentID: UInt64
  /// 1 for a counter, the duration in nanoseconds for a bucket of a histogram.
  package var seconds: Int64
  package var time: WallTime

  package init(incidentID: UInt64, seconds: Int64 = Nanoseconds.perSecond, time: WallTime) {
    self.incidentID = incidentID
    self.seconds = seconds
    self.time = time
  }
}

/// Writes the samples of one family. It exists only while a page has that family open, so a sample can land nowhere else; the head is written with
/// the first sample, so a family without one leaves no trace.
package struct MetricFamilyWriter: ~Copyable {
  private let descriptor: MetricDescriptor
  private let format: ExpositionFormat
  private var bytes: [UInt8]
  private var hasHead = false

  /// - Parameter bytes: the page so far; `end` gives it back longer.
  package init(_ descriptor: MetricDescriptor, _ format: ExpositionFormat, bytes: consuming [UInt8] = []) {
    self.descriptor = descriptor
    self.format = format
    self.bytes = bytes
  }

  package consuming func end() -> [UInt8] { bytes }

  /// One sample: the values of the labels in the descriptor's order, then a number of things. Not for histograms.
  package mutating func sample(_ labels: [LabelValue], _ value: UInt64, exemplar: Exemplar? = nil) {
    begin(labels)
    appendDecimal(value, to: &bytes)
    end(exemplar)
  }

  /// One sample without labels.
  package mutating func sample(_ value: UInt64) { sample([], value) }

  /// One sample in seconds. Negative durations are written as 0, so that a counter never is below it.
  package mutating func sample(_ labels: [LabelValue] = [], seconds nanoseconds: Int64, exemplar: Exemplar? = nil) {
    begin(labels)
    appendSeconds(nanoseconds: nanoseconds, to: &bytes)
    end(exemplar)
  }

  /// One sample that is 1 or 0.
  package mutating func sample(_ labels: [LabelValue], isTrue: Bool) {
    sample(labels, isTrue ? 1 : 0)
  }

  /// The buckets, count and sum of one histogram.
  ///
  /// - Parameter exemplars: by bucket; each one's duration must fall into its bucket.
  package mutating func sample(_ labels: [LabelValue], _ histogram: DurationHistogram, exemplars: [Exemplar?] = []) {
    assert(descriptor.type == .histogram, "only a histogram has buckets")
    head()
    var count: UInt64 = 0
    for index in histogram.counts.indices {
      count &+= histogram.counts[index]
      series("_bucket", labels, le: DurationHistogram.labels[index])
      appendDecimal(count, to: &bytes)
      end(exemplars.indices.contains(index) ? exemplars[index] : nil)
    }
    series("_count", labels)
    appendDecimal(count, to: &bytes)
    end(nil)
    series("_sum", labels)
    appendSeconds(nanoseconds: histogram.sum, to: &bytes)
    end(nil)
  }

  private mutating func begin(_ labels: [LabelValue]) {
    assert(descriptor.type != .histogram, "a histogram is written whole")
    head()
    switch descriptor.type {
    case .counter: series("_total", labels)
    case .info: series("_info", labels)
    case .gauge, .histogram: series("", labels)
    }
  }

  private mutating func end(_ exemplar: Exemplar?) {
    if let exemplar, format.isOpenMetrics, descriptor.type == .counter || descriptor.type == .histogram {
      appendLiteral(" # {incident_id=\"", to: &bytes)
      appendIdentifier(exemplar.incidentID, to: &bytes)
      appendLiteral("\"} ", to: &bytes)
      appendSeconds(nanoseconds: exemplar.seconds, to: &bytes)
      bytes.append(UInt8(ascii: " "))
      appendSeconds(nanoseconds: exemplar.time.nanoseconds, to: &bytes)
    }
    bytes.append(UInt8(ascii: "\n"))
  }

  /// HELP, TYPE and UNIT. OpenMetrics names the family without its suffix, text with it.
  private mutating func head() {
    if hasHead { return }
    hasHead = true
    comment("# HELP ")
    for byte in escaped(descriptor.help, quotes: format.isOpenMetrics) { bytes.append(byte) }
    bytes.append(UInt8(ascii: "\n"))
    comment("# TYPE ")
    switch descriptor.type {
    case .counter: appendLiteral("counter\n", to: &bytes)
    case .gauge: appendLiteral("gauge\n", to: &bytes)
    case .histogram: appendLiteral("histogram\n", to: &bytes)
    case .info: appendLiteral(format.isOpenMetrics ? "info\n" : "gauge\n", to: &bytes)
    }
    if let unit = descriptor.unit, format.isOpenMetrics {
      comment("# UNIT ")
      appendLiteral(unit, to: &bytes)
      bytes.append(UInt8(ascii: "\n"))
    }
  }

  private mutating func comment(_ keyword: StaticString) {
    appendLiteral(keyword, to: &bytes)
    appendLiteral(descriptor.name, to: &bytes)
    if !format.isOpenMetrics {
      if descriptor.type == .counter { appendLiteral("_total", to: &bytes) }
      if descriptor.type == .info { appendLiteral("_info", to: &bytes) }
    }
    bytes.append(UInt8(ascii: " "))
  }

  /// Name, labels and the space before the value.
  private mutating func series(_ suffix: StaticString, _ labels: [LabelValue], le: StaticString? = nil) {
    assert(labels.count <= descriptor.labels.count, "every value has a label")
    appendLiteral(descriptor.name, to: &bytes)
    appendLiteral(suffix, to: &bytes)
    var separator = UInt8(ascii: "{")
    for (name, value) in zip(descriptor.labels, labels) {
      let text =
        switch value {
        case .fixed(let literal): escaped(literal, quotes: true)
        case .text(let string): escaped(Array(string.utf8), quotes: true)
        }
      if text.isEmpty { continue }
      label(name, text, &separator)
    }
    if let le { label("le", escaped(le, quotes: true), &separator) }
    if separator == UInt8(ascii: ",") { bytes.append(UInt8(ascii: "}")) }
    bytes.append(UInt8(ascii: " "))
  }

  private mutating func label(_ name: StaticString, _ value: [UInt8], _ separator: inout UInt8) {
    bytes.append(separator)
    separator = UInt8(ascii: ",")
    appendLiteral(name, to: &bytes)
    bytes.append(UInt8(ascii: "="))
    bytes.append(UInt8(ascii: "\""))
    bytes.append(contentsOf: value)
    bytes.append(UInt8(ascii: "\""))
  }

  private func escaped(_ text: StaticString, quotes: Bool) -> [UInt8] {
    var literal: [UInt8] = []
    appendLiteral(text, to: &literal)
    return escaped(literal, quotes: quotes)
  }

  /// Backslash, line feed and, where they would end the text, quotes.
  private func escaped(_ text: [UInt8], quotes: Bool) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for byte in text {
      switch byte {
      case UInt8(ascii: "\\"): result += [UInt8(ascii: "\\"), byte]
      case UInt8(ascii: "\""): result += quotes ? [UInt8(ascii: "\\"), byte] : [byte]
      case UInt8(ascii: "\n"): result += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
      default: result.append(byte)
      }
    }
    return result
  }
}
