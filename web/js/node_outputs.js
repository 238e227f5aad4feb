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
// Returns these nodes; of older pages' names, which are other ones, not all are found.
export function along(name) {
  const nodes = []
  let graph = rootGraph()
  for (const id of name.split(':')) {
    nodes.push((graph?.nodes ?? []).find((node) => String(node.id) === id))
    graph = nodes.at(-1)?.subgraph
  }
  return nodes
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
    const nodes = along(String(detail.node))
    if (nodes.length < 2 || nodes.at(-1)?.comfyClass !== comfyClass || !detail.output) return
    show(nodes[0], detail.output)
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
  keep(node, widget)
  const [least, height] = node.computeSize()
  node.setSize([Math.max(least, width, node.size[0]), Math.max(height, node.size[1])])
  return widget
}

// Page 1.45 copies a blueprint's own list over its widgets whenever Nodes 2.0 asks for them.
function ownList(node) {
  return node._getPromotedViews?.() ?? node.widgets
}

function keep(node, widget) {
  if (!node.widgets.includes(widget)) ownList(node).push(widget)
}

export function removeWidget(node, name) {
  const widget = findWidget(node, name)
  if (!widget) return
  widget.onRemove?.()
  for (const list of [ownList(node), node.widgets]) {
    const place = list.indexOf(widget)
    if (place >= 0) list.splice(place, 1)
  }
}
