// Used by the files beside it.
import { app } from '../../../scripts/app.js'

// Outputs are named by the node's id, or by its subgraph's and its own with a colon between.
export function find(name) {
  const [id, subgraph] = name.split(':').reverse()
  const root = app.rootGraph ?? app.graph?.rootGraph ?? app.graph
  const graph = subgraph ? root?.subgraphs?.get(subgraph) : root
  return (graph?.nodes ?? []).find((node) => String(node.id) === id)
}
