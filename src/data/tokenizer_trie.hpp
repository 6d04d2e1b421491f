#pragma once
/// A tree of byte strings that finds the longest one a text starts with.
#include <cstdint>
#include <string_view>
#include <vector>

namespace fgvl::data {

/// Nodes are numbers; an edge (node, byte) -> node lives in one open hash table, so that a step is one look at memory.
class PieceTrie {
 public:
  explicit PieceTrie(std::size_t bytes) {
    std::size_t size = 64;
    while (size < 2 * bytes) size *= 2;  // at most half full: every byte adds at most one edge
    edges_.resize(size);
    shift_ = 64 - __builtin_ctzll(size);
  }

  using Node = std::uint32_t;
  Node add_root() { return add_node(); }

  /// Adds `text`, whose value must not be negative, below `root`.
  void add(Node root, std::string_view text, std::int32_t value) {
    Node node = root;
    for (const char c : text) {
      Edge& edge = slot(node, static_cast<std::uint8_t>(c));
      if (edge.key == kFree) edge = {key(node, static_cast<std::uint8_t>(c)), add_node()};
      node = edge.child;
    }
    values_[node] = value;
  }

  struct Match {
    std::int32_t value = -1;  ///< -1: none
    std::size_t length = 0;
  };
  Match longest(Node root, std::string_view text) const {
    Match match;
    Node node = root;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const Edge& edge = slot(node, static_cast<std::uint8_t>(text[i]));
      if (edge.key == kFree) break;
      node = edge.child;
      if (values_[node] >= 0) match = {values_[node], i + 1};
    }
    return match;
  }

 private:
  struct Edge {
    std::uint32_t key = kFree;
    Node child = 0;
  };
  static constexpr std::uint32_t kFree = 0xFFFFFFFF;

  Node add_node() {
    values_.push_back(-1);
    return static_cast<Node>(values_.size() - 1);
  }
  static std::uint32_t key(Node node, std::uint8_t byte) { return node << 8 | byte; }  // 2^24 nodes: vocabularies are far smaller
  std::size_t place(std::uint32_t key) const { return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15ULL) >> shift_); }
  const Edge& slot(Node node, std::uint8_t byte) const {
    const std::uint32_t wanted = key(node, byte);
    std::size_t i = place(wanted);
    while (edges_[i].key != wanted && edges_[i].key != kFree) i = (i + 1) & (edges_.size() - 1);
    return edges_[i];
  }
  Edge& slot(Node node, std::uint8_t byte) { return const_cast<Edge&>(static_cast<const PieceTrie*>(this)->slot(node, byte)); }

  std::vector<Edge> edges_;
  std::vector<std::int32_t> values_;
  int shift_ = 0;
};

}  // namespace fgvl::data
