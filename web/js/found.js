// Shows on the node what it found and did, where the page itself does not keep that text.
import { api } from '../../../scripts/api.js'
import { showOutputs } from './node_outputs.js'

const NODES = ['DEvUDPRestore', 'DEvUDPRestoreVideo', 'DEvUDPLoadUpscaleModel']
const WIDGET = 'found'
const HEIGHT = 48 // pixels: two lines
const OF_THE_PAGE = '$$node-text-preview' // gone after the run on pages from 2026 on
const told = new Map() // nodes that have run, and their texts; until the run is over

function place(node, name) {
  return node.widgets?.findIndex((w) => w.name === name) ?? -1
}

function addWidget(node) {
  const box = document.createElement('div')
  box.style.cssText = 'white-space:pre-wrap;overflow:auto;font-size:12px;padding:2px 4px;opacity:.8'
  const widget = node.addDOMWidget(WIDGET, 'devudp_found', box, {
    getMinHeight: () => HEIGHT,
    hideOnZoom: true,
    serialize: false // not part of a prompt
  })
  widget.serialize = false // nor of a saved workflow
  widget.box = box
  const [width, height] = node.computeSize()
  node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])])
  return widget
}

function remove(node) {
  const at = place(node, WIDGET)
  if (at < 0) return
  node.widgets[at].onRemove?.()
  node.widgets.splice(at, 1)
  node.setSize([node.size[0], node.computeSize()[1]])
}

function write(node, text) {
  const known = node.widgets?.[place(node, WIDGET)]
  if (!text) remove(node)
  else if (known || place(node, OF_THE_PAGE) < 0) (known ?? addWidget(node)).box.textContent = text
  node.setDirtyCanvas?.(true, true)
}

function show(node, output) {
  const text = [output?.text ?? []].flat().join('\n')
  told.set(node, text)
  write(node, text)
}

// Only now it is known whether the page keeps its own.
function settle() {
  for (const [node, text] of told) {
    if (node.graph && place(node, OF_THE_PAGE) >= 0) remove(node)
    else if (node.graph) write(node, text)
  }
  told.clear()
}

for (const end of ['execution_success', 'execution_error', 'execution_interrupted']) {
  api.addEventListener(end, () => setTimeout(settle, 500))
}

for (const comfyClass of NODES) showOutputs({ name: `DEvUDP.Found.${comfyClass}`, comfyClass, show })
