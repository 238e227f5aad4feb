// Shows on the node what it found and did, where the page itself does not keep that text.
import { api } from '../../../scripts/api.js'
import { addWidget, findWidget, removeWidget, showOutputs } from './node_outputs.js'

const NODES = ['DEvUDPRestore', 'DEvUDPRestoreVideo', 'DEvUDPLoadUpscaleModel']
const WIDGET = 'found'
const HEIGHT = 48 // pixels: two lines
const OF_THE_PAGE = '$$node-text-preview' // gone after the run on pages from 2026 on
const told = new Map() // nodes that have run, and their texts; until the run is over

function makeWidget(node) {
  const box = document.createElement('div')
  box.style.cssText = 'white-space:pre-wrap;overflow:auto;font-size:12px;padding:2px 4px;opacity:.9'
  const options = { getMinHeight: () => HEIGHT, hideOnZoom: true }
  const widget = addWidget(node, WIDGET, 'devudp_found', box, options)
  // One height only: Nodes 2.0 would give it half of the room that the view beside it needs.
  widget.computeLayoutSize = undefined
  widget.computeSize = () => [0, HEIGHT]
  widget.box = box
  return widget
}

function remove(node) {
  if (!findWidget(node, WIDGET)) return
  removeWidget(node, WIDGET)
  node.setSize([node.size[0], node.computeSize()[1]])
}

function write(node, text) {
  const known = findWidget(node, WIDGET)
  if (!text) remove(node)
  else if (known || !findWidget(node, OF_THE_PAGE)) (known ?? makeWidget(node)).box.textContent = text
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
    if (node.graph && findWidget(node, OF_THE_PAGE)) remove(node)
    else if (node.graph) write(node, text)
  }
  told.clear()
}

for (const end of ['execution_success', 'execution_error', 'execution_interrupted']) {
  api.addEventListener(end, () => setTimeout(settle, 500))
}

for (const comfyClass of NODES) showOutputs({ name: `DEvUDP.Found.${comfyClass}`, comfyClass, show })
