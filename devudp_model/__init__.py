"""DEvUDP: one generator that deblurs photographs and corrects their exposure."""
