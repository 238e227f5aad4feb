// Used by the files beside it.
import { app } from '../../../scripts/app.js'

// Outputs are named by the node's id, or by its subgraph's and its own with a colon between.
export function find(name) {
  const [id, subgraph] = name.split(':').reverse()
  const root = app.rootGraph ?? app.graph?.rootGraph ?? app.graph
  const graph = subgraph ? root?.subgraphs?.get(subgraph) : root
  return (graph?.nodes ?? []).find((node) => String(node.id) === id)
}

// Calls created(node) for every new node of a class, and show(node, output) whenever it has run. The
// page keeps what nodes gave for every tab, and hands it over when one is opened again.
export function showOutputs({ name, comfyClass, created, show }) {
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
        if (node?.comfyClass === comfyClass) show(node, output)
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
