// Shows DEvUDP Measure's numbers on the node itself.
import { addWidget, findWidget, showOutputs } from './node_outputs.js'

const NODE = 'DEvUDPMeasure'
const WIDGET = 'numbers'
const LINES = 84 // pixels: four lines of text

function makeWidget(node) {
  // A kind of its own: Nodes 2.0 would draw a 'textarea' itself, without what is written here.
  const box = document.createElement('textarea')
  box.readOnly = true
  box.className = 'comfy-multiline-input'
  box.placeholder = 'PSNR, SSIM, MAE'
  const options = {
    getValue: () => box.value,
    setValue: (text) => {
      box.value = text
    },
    getMinHeight: () => LINES
  }
  addWidget(node, WIDGET, 'devudp_numbers', box, options, 220)
}

function show(node, output) {
  const widget = findWidget(node, WIDGET)
  if (widget && output?.text) widget.value = [output.text].flat().join('')
}

showOutputs({ name: 'DEvUDP.Measure', comfyClass: NODE, created: makeWidget, show })
