// Shows DEvUDP Measure's numbers on the node itself.
import { app } from '../../../scripts/app.js'
import { ComfyWidgets } from '../../../scripts/widgets.js'

const NODE = 'DEvUDPMeasure'
const WIDGET = 'numbers'

function show(node, text) {
  let widget = node.widgets?.find((w) => w.name === WIDGET)
  if (!widget) {
    widget = ComfyWidgets.STRING(node, WIDGET, ['STRING', { multiline: true }], app).widget
    if (widget.inputEl) widget.inputEl.readOnly = true
    widget.serialize = false // not part of a saved workflow
    widget.options.serialize = false // nor of a prompt
    const [width, height] = node.size
    node.setSize([Math.max(width, 220), Math.max(height, 160)])
  }
  widget.value = text
}

app.registerExtension({
  name: 'DEvUDP.Measure',
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return
    const before = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments)
      if (output?.text) show(this, output.text.join(''))
    }
  }
})
