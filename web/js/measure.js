// Shows DEvUDP Measure's numbers on the node itself.
import { showOutputs } from './node_outputs.js'

const NODE = 'DEvUDPMeasure'
const WIDGET = 'numbers'
const LINES = 84 // pixels: four lines of text

function addWidget(node) {
  // A kind of its own: Nodes 2.0 would draw a 'textarea' itself, without what is written here.
  const box = document.createElement('textarea')
  box.readOnly = true
  box.className = 'comfy-multiline-input'
  box.placeholder = 'PSNR, SSIM, MAE'
  const widget = node.addDOMWidget(WIDGET, 'devudp_numbers', box, {
    getValue: () => box.value,
    setValue: (text) => {
      box.value = text
    },
    getMinHeight: () => LINES,
    hideOnZoom: false,
    serialize: false // not part of a prompt
  })
  widget.serialize = false // nor of a saved workflow, where the numbers could be out of date
  const [width, height] = node.computeSize()
  node.setSize([Math.max(width, 220, node.size[0]), Math.max(height, node.size[1])])
}

function show(node, output) {
  const widget = node.widgets?.find((w) => w.name === WIDGET)
  if (widget && output?.text) widget.value = [output.text].flat().join('')
}

showOutputs({ name: 'DEvUDP.Measure', comfyClass: NODE, created: addWidget, show })
