/// `flow.id`: the number of a query's flow, the same on every node that the query passes with the same addresses.
package enum FlowID {
  /// Hashes without a key, so that two agents agree.
  ///
  /// - Parameters:
  ///   - tuple: as it is between the nodes: on the client's node after translation, on the server's node as it arrived.
  ///   - name: the question's name in wire form; upper and lower case are alike.
  /// - Returns: never 0.
  package static func hash(_ tuple: FiveTuple, id: UInt16, type: UInt16, name: RawSpan) -> UInt64 {
    var hash = SeededHash(seed: 0)
    hash.combine(tuple)
    hash.combine(UInt64(id))
    hash.combine(UInt64(type))
    hash.combine(name: name)
    return max(1, hash.finish())
  }
}
