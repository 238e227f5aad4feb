// Used by the files beside it.
import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'

function rootGraph() {
  return app.rootGraph ?? app.graph?.rootGraph ?? app.graph
}

// Outputs are named by the node's id, or by its subgraph's and its own with a colon between.
export function find(name) {
  const [id, subgraph] = name.split(':').reverse()
  const root = rootGraph()
  const graph = subgraph ? root?.subgraphs?.get(subgraph) : root
  return (graph?.nodes ?? []).find((node) => String(node.id) === id)
}

// A run names them by the ids of all nodes from the outside in: 5:1 is node 1 in the blueprint 5.
// Returns the outermost and the innermost, nothing for a node in no blueprint.
function ends(name) {
  const ids = name.split(':')
  if (ids.length < 2) return []
  const nodes = []
  let graph = rootGraph()
  for (const id of ids) {
    nodes.push((graph?.nodes ?? []).find((node) => String(node.id) === id))
    graph = nodes.at(-1)?.subgraph
  }
  return [nodes[0], nodes.at(-1)]
}

// The blueprint that holds a node; nothing if several do, which share what is inside.
function onlyOutside(node) {
  const root = rootGraph()
  if (!node.graph || node.graph === root) return undefined
  const all = (root?.nodes ?? []).filter((each) => each.subgraph === node.graph)
  return all.length === 1 ? all[0] : undefined
}

// Calls created(node) for every new node of a class, and show(node, output) whenever it has run,
// also for the blueprint that it is in. The page keeps what nodes gave for every tab, and hands it
// over when one is opened again.
export function showOutputs({ name, comfyClass, created, show }) {
  api.addEventListener('executed', ({ detail }) => {
    const [outside, inside] = ends(String(detail.node))
    if (outside && inside?.comfyClass === comfyClass && detail.output) show(outside, detail.output)
  })
  app.registerExtension({
    name,
    nodeCreated(node) {
      if (node.comfyClass !== comfyClass) return
      created?.(node)
      const before = node.onExecuted
      node.onExecuted = function (output) {
        before?.apply(this, arguments)
        show(this, output)
      }
    },
    onNodeOutputsUpdated(outputs) {
      for (const [name, output] of Object.entries(outputs ?? {})) {
        const node = find(name)
        if (node?.comfyClass !== comfyClass) continue
        show(node, output)
        const outside = onlyOutside(node)
        if (outside) show(outside, output)
      }
    }
  })
}

export function findWidget(node, name) {
  return node.widgets?.find((widget) => widget.name === name)
}

// Puts an element on a node, which grows to have room for it. Nothing of it is saved.
export function addWidget(node, name, type, element, options, width = 0) {
  const widget = node.addDOMWidget(name, type, element, {
    hideOnZoom: false,
    ...options,
    serialize: false // not part of a prompt
  })
  widget.serialize = false // nor of a saved workflow, where it could be out of date
  const [least, height] = node.computeSize()
  node.setSize([Math.max(least, width, node.size[0]), Math.max(height, node.size[1])])
  return widget
}

export function removeWidget(node, name) {
  const widget = findWidget(node, name)
  if (!widget) return
  widget.onRemove?.()
  node.widgets.splice(node.widgets.indexOf(widget), 1)
}
