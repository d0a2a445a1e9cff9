import tensorflow as tf

# Define a custom layer
class CustomDense(tf.keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super(CustomDense, self).__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
      self.w = self.add_weight(shape=(input_shape[-1], self.units),
                                initializer='random_normal',
                                trainable=True)
      self.b = self.add_weight(shape=(self.units,),
                                initializer='zeros',
                                trainable=True)

    def call(self, inputs):
        return tf.matmul(inputs, self.w) + self.b


# Build a model with custom layer
inputs = tf.keras.Input(shape=(10,))
x = CustomDense(64)(inputs)
outputs = tf.keras.layers.Dense(1, activation='sigmoid')(x)
model = tf.keras.Model(inputs=inputs, outputs=outputs)

# Compile the model
model.compile(optimizer='adam',
              loss='binary_crossentropy',
              metrics=['accuracy'])

# Train the model
dummy_data = np.random.rand(100,10) # Generate dummy data.
dummy_labels = np.random.randint(0,1,100) # Generate dummy labels.
model.fit(dummy_data, dummy_labels, epochs=2) # Train with dummy data.

# Save the model with custom layer
model.save('my_custom_model')
